
// ---- names of clusters: typed in, kept by the browser, downloaded, read from a file

const names = new Map();
let reportKey = 5381;
for (let i = 0; i < packed.length; i += 1) reportKey = (reportKey * 33 + packed.charCodeAt(i)) >>> 0;
reportKey = `deepcluster_sk/${packed.length}-${reportKey}`;

function clusterName(cluster, long = false) {
  if (cluster < 0) return "no cluster";
  const number = long && !names.has(cluster) ? `Cluster ${cluster}` : String(cluster);
  return names.has(cluster) ? `${number} · ${names.get(cluster)}` : number;
}

// some browsers keep nothing for pages that are files, or for frames
function keep() {
  try {
    localStorage.setItem(reportKey, JSON.stringify(Object.fromEntries(names)));
  } catch {
    byId("names-said").textContent = "Your browser does not keep names for this page: download them.";
  }
}
function kept() {
  try {
    return JSON.parse(localStorage.getItem(reportKey)) || {};
  } catch {
    return {};
  }
}

function showNames() {
  document.querySelectorAll("[data-called]").forEach((place) => {
    const name = clusterName(Number(place.dataset.called), "long" in place.dataset);
    const most = place instanceof SVGElement ? 22 : 70; // the tree has little room
    place.textContent = name.length > most ? `${name.slice(0, most - 1)}…` : name;
  });
  document.querySelectorAll("input.cluster-name").forEach((field) => {
    const name = names.get(Number(field.dataset.cluster)) || "";
    if (field !== document.activeElement) field.value = name;
  });
  document.dispatchEvent(new Event("names"));
}
function setName(cluster, text) {
  const name = text.trim().slice(0, 60);
  if (name) names.set(cluster, name);
  else names.delete(cluster);
}
// returns how many names there were; names of clusters that this page lacks are left out
function takeNames(found) {
  if (found === null || typeof found !== "object" || Array.isArray(found)) throw new TypeError();
  const pairs = Object.entries(found).filter(([cluster, name]) =>
    /^\d+$/.test(cluster) && Number(cluster) < data.clusters && typeof name === "string");
  pairs.forEach(([cluster, name]) => setName(Number(cluster), name));
  return pairs.length;
}

document.addEventListener("input", (event) => {
  if (!event.target.matches("input.cluster-name")) return;
  setName(Number(event.target.dataset.cluster), event.target.value);
  showNames();
  keep();
});
const sortedNames = () => [...names].sort((a, b) => a[0] - b[0]);
byId("names-csv").addEventListener("click", () => {
  download("cluster_names.csv", "text/csv", csv([["cluster", "name"], ...sortedNames()]));
});
byId("names-json").addEventListener("click", () => {
  const text = JSON.stringify({ clusters: Object.fromEntries(sortedNames()) }, null, 2);
  download("cluster_names.json", "application/json", text);
});
byId("names-file").addEventListener("change", async (event) => {
  const file = event.target.files[0];
  if (!file) return;
  const said = byId("names-said");
  try {
    const n = takeNames(JSON.parse(await file.text()).clusters);
    said.textContent = `${n} names read from ${file.name}`;
    showNames();
    keep();
  } catch {
    said.textContent = `${file.name} is no file of names: expected {"clusters": {"0": "name"}}.`;
  }
  event.target.value = "";
});
try {
  takeNames(kept());
} catch {
  names.clear(); // what was kept is not ours
}
