
showNames();
document.documentElement.dataset.ready = "";
