"use strict";
// The search field of the page of options: shows the options that hold every word, and hides what does not.

function searchOptions() {
  const form = document.getElementById("option-search");
  if (!form) return;
  const query = document.getElementById("option-query");
  const count = document.getElementById("option-count");
  const entries = [...document.querySelectorAll("dl.confval")];
  const texts = entries.map((entry) => entry.textContent.toLowerCase());
  const sections = [...new Set(entries.map((entry) => entry.closest("section")))];

  function search() {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    entries.forEach((entry, i) => {
      entry.hidden = !words.every((word) => texts[i].includes(word));
      if (!entry.hidden) found += 1;
    });
    for (const section of sections) section.hidden = ![...section.querySelectorAll("dl.confval")].some((entry) => !entry.hidden);
    count.textContent = words.length ? `${found} of ${entries.length} options` : `${entries.length} options`;
  }

  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  query.addEventListener("input", search);
  search();
}

searchOptions();
