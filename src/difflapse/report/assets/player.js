"use strict";

/* The movie's clock: which frame is shown, and the ways to another. Everything else listens to it. */
difflapse.Player = (() => {
  const { el, Event } = difflapse;

  class Player {
    /* Another frame is shown (its number in the movie). */
    moved = new Event();
    /* There are new pixels to draw. */
    painted = new Event();
    /* Playing began or ended, the direction or the speed changed. */
    changed = new Event();
    failed = new Event();

    constructor(movie, source, first = 0) {
      this.count = movie.frames.length;
      this.frame = first;
      this.playing = false;
      this.direction = 1;
      this.speed = 1;
      this.broken = false;
      this.fps = movie.fps;
      // When each frame begins, s; all alike unless the record says otherwise.
      const told = movie.frames.every((frame) => Number.isFinite(frame.start_s));
      this.starts = movie.frames.map((frame, k) => (told ? frame.start_s : k / movie.fps));
      this.video = el("video", { muted: true, playsinline: true, preload: "auto", tabindex: "-1", "aria-hidden": "true" });
      this.video.muted = true;
      this.video.addEventListener("error", () => this.#fail());
      this.video.addEventListener("seeked", () => this.#arrived());
      // A place asked for before the movie is known would be lost.
      this.video.addEventListener("loadedmetadata", () => { if (this.frame > 0) this.#go(this.frame); });
      this.video.addEventListener("loadeddata", () => { if (!this.waiting) this.painted.tell(); });
      this.video.addEventListener("ended", () => { if (this.playing) this.#again(); });
      this.video.src = source;
      this.#watch();
    }

    get ready() { return this.video.readyState >= 2 && !this.broken; }

    get #known() { return this.video.readyState >= 1; }

    /* Show a frame; the newest wish counts where the browser is slower than the hand. */
    seek(k) {
      const wanted = Math.min(this.count - 1, Math.max(0, Math.round(k)));
      this.#set(wanted);
      if (this.broken || this.waiting || !this.#known) return;
      this.#go(wanted);
    }

    step(by) {
      this.pause();
      this.seek((this.frame + by + this.count) % this.count);
    }

    toggle() { if (this.playing) this.pause(); else this.play(); }

    play() {
      if (this.broken) return;
      this.playing = true;
      this.changed.tell();
      if (this.direction < 0) { this.#backwards(); return; }
      if (this.frame === this.count - 1) this.#set(0);
      this.#go(this.frame);
      this.video.playbackRate = this.speed;
      // Refused where the browser wants a gesture first, or when paused at once.
      this.video.play().catch(() => this.pause());
    }

    pause() {
      if (!this.playing) return;
      this.playing = false;
      clearTimeout(this.timer);
      this.video.pause();
      this.changed.tell();
      this.#go(this.frame);
    }

    reverse() { this.#while(() => { this.direction = -this.direction; }); }

    setSpeed(speed) { this.#while(() => { this.speed = speed; }); }

    /* Change something, and go on as before. */
    #while(change) {
      const playing = this.playing;
      this.pause();
      change();
      if (playing) this.play();
      else this.changed.tell();
    }

    #set(k) {
      if (k === this.frame) return;
      this.frame = k;
      this.moved.tell(k);
    }

    /* The middle of a frame: never the edge between two. */
    #middle(k) {
      const next = k + 1 < this.count ? this.starts[k + 1] : this.starts[k] + 1 / this.fps;
      return (this.starts[k] + next) / 2;
    }

    #go(k) {
      this.waiting = true;
      this.going = k;
      this.video.currentTime = this.#middle(k);
    }

    #arrived() {
      this.waiting = false;
      if (this.going !== this.frame && !(this.playing && this.direction > 0)) this.#go(this.frame);
      else this.painted.tell();
    }

    #again() {
      this.#set(0);
      this.#go(0);
      this.video.play().catch(() => this.pause());
    }

    /* Frame by frame to the left; each waits until the last is there. */
    #backwards() {
      const period = 1000 / (this.fps * this.speed);
      this.timer = setTimeout(() => {
        if (!this.playing) return;
        if (!this.waiting) this.seek(this.frame > 0 ? this.frame - 1 : this.count - 1);
        this.#backwards();
      }, period);
    }

    /* Follow the pictures as the browser shows them. */
    #watch() {
      const { video } = this;
      if (video.requestVideoFrameCallback) {
        const shown = (now, facts) => { this.#seen(facts.mediaTime); video.requestVideoFrameCallback(shown); };
        video.requestVideoFrameCallback(shown);
      } else {
        const look = () => { if (this.playing) this.#seen(video.currentTime); requestAnimationFrame(look); };
        requestAnimationFrame(look);
      }
    }

    #seen(time) {
      if (this.playing && this.direction > 0 && !this.waiting) this.#set(this.#at(time));
      this.painted.tell();
    }

    #at(time) {
      let [low, high] = [0, this.count - 1];
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (this.starts[middle] <= time + 0.2 / this.fps) low = middle;
        else high = middle - 1;
      }
      return low;
    }

    #fail() {
      this.broken = true;
      this.playing = false;
      this.changed.tell();
      this.failed.tell();
    }
  }

  return Player;
})();
