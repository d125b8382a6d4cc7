"use strict";

/* The one name that this page's scripts share: data that were given, small helpers, and how things are told. */
const difflapse = (() => {
  const given = new Map();
  const waiting = new Map();

  /* A data file hands over its value. */
  function give(name, value) {
    given.set(name, value);
    const waiter = waiting.get(name);
    if (waiter) waiter.resolve(value);
  }

  /* A promise of a value: at once where it is here, else its file is loaded. file:// forbids fetch, not scripts. */
  function need(name) {
    if (given.has(name)) return Promise.resolve(given.get(name));
    if (!waiting.has(name)) {
      const waiter = {};
      waiter.promise = new Promise((resolve, reject) => Object.assign(waiter, { resolve, reject }));
      waiting.set(name, waiter);
      const script = document.createElement("script");
      script.src = `report_files/${name}.js`;
      script.onerror = () => waiter.reject(new Error(`report_files/${name}.js cannot be read`));
      document.head.append(script);
    }
    return waiting.get(name).promise;
  }

  /* An element; attributes by name, `on...` listeners, and children. Text is only ever text. */
  function el(tag, attributes = {}, ...children) {
    const namespace = SVG.has(tag) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
    const element = document.createElementNS(namespace, tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  }
  const SVG = new Set(["svg", "g", "path", "line", "rect", "circle", "text", "title", "marker"]);

  /* Something that happens and is listened to. */
  class Event {
    #listeners = [];
    listen(listener) { this.#listeners.push(listener); }
    tell(...values) { for (const listener of this.#listeners) listener(...values); }
  }

  const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

  /* A number of so many digits behind the point, with a real minus; a dash where it is unknown. */
  function number(value, digits = 2) {
    return known(value) ? value.toFixed(digits).replace("-", "\u2212") : "\u2013";
  }

  /* A number of three digits or so, whatever its size. */
  function figure(value) {
    if (!known(value)) return "\u2013";
    const size = Math.abs(value);
    const digits = size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 3 : 4;
    return number(value, digits);
  }

  /* A number and its error, both to the error's second digit. */
  function uncertain(value, error) {
    const digits = Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(error))));
    return `${number(value, digits)} ± ${number(error, digits)}`;
  }

  /* A probability; what lies far beyond the night's own stars is no more than that. */
  function chance(value) {
    if (!known(value)) return "\u2013";
    return value < 1e-9 ? "below 1e\u22129" : value.toExponential(0).replace("-", "\u2212");
  }

  function bytes(count) {
    for (const unit of ["bytes", "kB", "MB"]) {
      if (count < 1024) return `${count.toFixed(unit === "bytes" || count >= 100 ? 0 : 1)} ${unit}`;
      count /= 1024;
    }
    return `${count.toFixed(1)} GB`;
  }

  function plural(count, noun) { return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`; }

  /* HH:MM:SS and YYYY-MM-DD of an ISO time, to the nearest second as in the movie. */
  const whole = (iso) => new Date(Math.round(Date.parse(`${iso.slice(0, 23)}Z`) / 1000) * 1000).toISOString();
  const clock = (iso) => (iso ? whole(iso).slice(11, 19) : "");
  const day = (iso) => (iso ? whole(iso).slice(0, 10) : "");

  /* MM-DD of a time in MJD. */
  const dayOf = (mjd) => new Date(Math.round((mjd - 40587) * 86400) * 1000).toISOString().slice(5, 10);

  /* HH:MM of a time in MJD. */
  function clockOf(mjd, seconds = false) {
    const total = Math.round((mjd - Math.floor(mjd)) * 86400);
    const parts = [Math.floor(total / 3600) % 24, Math.floor(total / 60) % 60, total % 60];
    return parts.slice(0, seconds ? 3 : 2).map((part) => String(part).padStart(2, "0")).join(":");
  }

  function sexagesimal(value, digits, marks) {
    const scale = 10 ** digits;
    const total = Math.round(Math.abs(value) * 3600 * scale);
    const seconds = ((total % (60 * scale)) / scale).toFixed(digits).padStart(digits + 3, "0");
    const minutes = String(Math.floor(total / (60 * scale)) % 60).padStart(2, "0");
    const whole = String(Math.floor(total / (3600 * scale))).padStart(2, "0");
    return `${whole}${marks[0]}${minutes}${marks[1]}${seconds}${marks[2]}`;
  }

  const hours = (ra) => sexagesimal((((ra / 15) % 24) + 24) % 24, 2, ["h", "m", "s"]);
  const degrees = (dec) => (dec < 0 ? "\u2212" : "+") + sexagesimal(dec, 1, ["°", "′", "″"]);

  /* A short word for a screen reader, where what changed is only seen. */
  let speaker = null;
  function say(text) {
    if (!speaker) {
      speaker = el("p", { class: "unseen", role: "status", "aria-live": "polite" });
      document.body.append(speaker);
    }
    speaker.textContent = text;
  }

  return {
    give, need, el, Event, known, number, figure, uncertain, chance, bytes, plural, clock, day, dayOf, clockOf, hours, degrees, say,
    now: (name) => given.get(name),
  };
})();
