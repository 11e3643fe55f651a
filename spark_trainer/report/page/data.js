// Data lie in blocks of JSON; one is decoded when something of it is shown.
const decoded = new Map();
const block = (name) => {
  if (!decoded.has(name)) {
    const found = document.getElementById(`data-${name}`);
    decoded.set(name, found ? JSON.parse(found.textContent) : null);
  }
  return decoded.get(name);
};

const info = block("info");
const columns = block("videos");
const numVideos = columns.id.length;

const ofVideo = (kind, number) => block(`${kind}-${Math.floor(number / info.per_block)}`)[number % info.per_block];

const picture = (number) => {
  const found = ofVideo("pictures", number);
  return found ? `data:image/webp;base64,${found}` : null;
};

const details = (number) => ofVideo("texts", number);

const chosenCaption = (number) => {
  const captions = details(number).captions || [];
  return (captions.find((one) => one[4]) || captions[0] || [null, null, "", null, 0])[2];
};

const spoken = (number) => (details(number).segments || []).map(([, text]) => text).join(" ");

let numbers = null;
const numberOf = (beginning) => {
  numbers ||= new Map(columns.id.map((id, number) => [id, number]));
  if (numbers.has(beginning)) return numbers.get(beginning);
  return beginning.length < 64 && beginning ? columns.id.findIndex((id) => id.startsWith(beginning)) : -1;
};

// All that is said of each video in small letters, made at the first search.
let haystack = null;
const holds = (number, words) => {
  haystack ||= columns.id.map((id, at) => {
    const captions = (details(at).captions || []).map((one) => one[2]).join("\n");
    return `${columns.name[at]}\n${id}\n${captions}\n${spoken(at)}`.toLowerCase();
  });
  return words.every((word) => haystack[number].includes(word));
};
