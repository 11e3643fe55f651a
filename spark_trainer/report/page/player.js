// The video's own file where the browser can play it, else its frames in time with its sound.
const frameLink = (clip, shot) => `${clip.frames}/${encodeURIComponent(shot[0])}`;

const start = (media, seconds) => {
  media.currentTime = seconds;
  media.play().catch(() => {}); // where it can't, its `error` event comes too
};

const slides = (clip, still) => {
  const shots = clip.shots || [];
  const image = h("img", { class: "still", alt: "", src: shots.length ? frameLink(clip, shots[0]) : still });
  image.addEventListener("error", () => { if (still && image.src !== still) image.src = still; });
  const show = (place) => { if (shots[place]) image.src = frameLink(clip, shots[place]); };
  const parts = [image];
  if (clip.audio) {
    const sound = h("audio", { controls: true, preload: "none", src: clip.audio });
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

const player = (clip, still) => {
  if (!clip.video) return slides(clip, still);
  const made = h("div", { class: "player" });
  const video = h("video", { controls: true, playsinline: true, preload: "metadata", poster: still, src: clip.video });
  const instead = () => {
    const other = slides(clip, still);
    made.seek = other.seek;
    made.replaceChildren(other);
  };
  video.addEventListener("error", instead);
  video.addEventListener("loadedmetadata", () => { if (!video.videoWidth) instead(); });
  made.seek = (seconds) => { start(video, seconds); };
  made.append(video);
  return made;
};
