// The video's own file where the browser can play it, else its frames in time with its sound.
const frameLink = (video, shot) => `${video.frames}/${encodeURIComponent(shot[0])}`;

const start = (media, seconds) => {
  media.currentTime = seconds;
  media.play().catch(() => {}); // where it can't, its `error` event comes too
};

const slides = (video, still) => {
  const shots = video.shots || [];
  const image = h("img", { class: "still", alt: "", src: shots.length ? frameLink(video, shots[0]) : still });
  image.addEventListener("error", () => { if (still && image.src !== still) image.src = still; });
  const show = (place) => { if (shots[place]) image.src = frameLink(video, shots[place]); };
  const parts = [image];
  if (video.audio) {
    const sound = h("audio", { controls: true, preload: "none", src: video.audio });
    sound.addEventListener("timeupdate", () => {
      const past = shots.filter(([, time]) => time !== null && time <= sound.currentTime + 0.05).length;
      show(Math.max(0, past - 1));
    });
    parts.push(sound);
  } else if (shots.length > 1) {
    parts.push(h("input", { type: "range", min: 0, max: shots.length - 1, value: 0, "aria-label": "Frame", oninput: (event) => show(+event.target.value) }));
  }
  const made = h("div", { class: "player slides" }, parts);
  made.seek = (seconds) => {
    const sound = made.querySelector("audio");
    if (sound) start(sound, seconds);
  };
  return made;
};

const player = (video, still) => {
  if (!video.file) return slides(video, still);
  const made = h("div", { class: "player" });
  const film = h("video", { controls: true, playsinline: true, preload: "metadata", poster: still, src: video.file });
  const instead = () => {
    const other = slides(video, still);
    made.seek = other.seek;
    made.replaceChildren(other);
  };
  film.addEventListener("error", instead);
  film.addEventListener("loadedmetadata", () => { if (!film.videoWidth) instead(); });
  made.seek = (seconds) => { start(film, seconds); };
  made.append(film);
  return made;
};
