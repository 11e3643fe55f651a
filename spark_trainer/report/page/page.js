// The page: each section is drawn once, and keys work wherever nothing is typed.
startGallery(drawGlance());
startRuns();
drawLineage();
drawSince();

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || dialog.open || event.target.closest("input, textarea, select")) return;
  event.preventDefault();
  document.getElementById("search").focus();
});

const openNamed = () => {
  const named = /^#video-([0-9a-f]{6,64})$/.exec(location.hash);
  if (named && numberOf(named[1]) >= 0) showVideo(numberOf(named[1]), found);
};
openNamed();
window.addEventListener("hashchange", openNamed);

const links = new Map([...document.querySelectorAll(".bar nav a")].map((link) => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) for (const [id, link] of links) { if (id === entry.target.id) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current"); }
}, { rootMargin: "-30% 0px -65% 0px" });
document.querySelectorAll("main > section").forEach((section) => watcher.observe(section));

document.fonts.ready.then(() => requestAnimationFrame(() => setTimeout(() => { document.documentElement.dataset.ready = Math.round(performance.now()); })));
