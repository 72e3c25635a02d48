
// ---- enlarged pictures: a dialog that steps through those around

const viewer = byId("viewer");
let viewed = [];
let viewedAt = 0;

function sampleFacts(i) {
  const facts = [clusterName(columns.cluster[i], true), `confidence ${percent(confidenceOf(i))}`];
  if (columns.second && columns.second[i] >= 0) {
    facts.push(`second choice ${clusterName(columns.second[i], true)}`);
  }
  if (classOf(i) !== null) facts.push(`class ${classOf(i)}`);
  return facts;
}
function showViewed() {
  const i = viewed[viewedAt];
  byId("viewer-picture").replaceChildren(tile(i));
  byId("viewer-name").textContent = nameOf(i);
  byId("viewer-facts").textContent = sampleFacts(i).join(" · ");
  byId("viewer-place").textContent = viewed.length > 1 ? `${viewedAt + 1} of ${viewed.length}` : "";
  byId("viewer-previous").disabled = viewedAt === 0;
  byId("viewer-next").disabled = viewedAt === viewed.length - 1;
}
function view(i, around) {
  viewed = around.filter(hasPicture);
  viewedAt = viewed.indexOf(i);
  showViewed();
  if (!viewer.open) viewer.showModal(); // the browser gives the focus back when it closes
}
function step(by) {
  const next = Math.min(Math.max(viewedAt + by, 0), viewed.length - 1);
  if (next === viewedAt) return;
  viewedAt = next;
  showViewed();
}
byId("viewer-previous").addEventListener("click", () => step(-1));
byId("viewer-next").addEventListener("click", () => step(1));
byId("viewer-close").addEventListener("click", () => viewer.close());
viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
viewer.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.tile");
  if (!button) return;
  const around = button.closest("ul, tbody").querySelectorAll("button.tile");
  view(Number(button.dataset.sample), [...around].map((one) => Number(one.dataset.sample)));
});

// arrows go from picture to picture within a list; Tab takes the first one only
function oneTabStop(list) {
  list.querySelectorAll("button.tile").forEach((button, n) => { button.tabIndex = n ? -1 : 0; });
}
document.querySelectorAll("ul.tiles").forEach(oneTabStop);
document.addEventListener("keydown", (event) => {
  if (!event.target.matches("ul.tiles button.tile")) return;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by) return;
  const all = [...event.target.closest("ul").querySelectorAll("button.tile")];
  const next = all[all.indexOf(event.target) + by];
  if (!next) return;
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
  event.preventDefault();
});
