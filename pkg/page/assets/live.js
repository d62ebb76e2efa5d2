// Puts new contents into the parts of the page that change, as often as the page says,
// while it is seen and nobody has a selection in it. Without this script the page is
// loaded anew.
"use strict";
(() => {
  const line = document.querySelector(".live");
  const words = line.querySelector("span");
  const button = line.querySelector("button");
  let told = words.textContent;
  let paused = false;
  const say = (text) => { if (words.textContent !== text) words.textContent = text; };

  // replace keeps the focus on the link that has it, and what scrolls where it is.
  const replace = (old, fresh) => {
    const link = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const at = [...old.querySelectorAll(".scroll")].map((e) => e.scrollLeft);
    old.replaceWith(fresh);
    fresh.querySelectorAll(".scroll").forEach((e, i) => { e.scrollLeft = at[i] || 0; });
    if (link) fresh.querySelectorAll("a").forEach((a) => { if (a.getAttribute("href") === link) a.focus({ preventScroll: true }); });
  };

  const renew = async () => {
    if (paused || document.hidden || !document.getSelection().isCollapsed) return;
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (paused) return;
      const next = page.querySelector(".live");
      line.dataset.seconds = next.dataset.seconds;
      told = next.querySelector("span").textContent;
      document.querySelectorAll(".fresh").forEach((old) => replace(old, document.adoptNode(page.getElementById(old.id))));
      say(told);
    } catch {
      say("svcproxy does not answer; this is what it last said");
    }
  };

  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Go on" : "Pause";
    say(paused ? "Paused" : told);
  });
  const wait = () => setTimeout(() => renew().finally(wait), 1000 * Number(line.dataset.seconds));
  wait();
})();
