// The page's texts in the language of the document, and numbers and dates as that language writes them.

export const language = document.documentElement.lang;
const answer = await fetch(`/static/strings/${language}.json`);
const strings = await answer.json();

export function t(key, values = {}) {
  return strings[key].replace(/\{([a-z]+)\}/g, (_, name) => values[name]);
}

export const has = (key) => key in strings;

const whole = new Intl.NumberFormat(language);
const share = new Intl.NumberFormat(language, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const loss = new Intl.NumberFormat(language, { minimumFractionDigits: 3, maximumFractionDigits: 3 });
const date = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });
const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];

const known = (value, format) => (value === null || value === undefined ? t("unknown") : format(value));

export const number = (value) => known(value, (one) => whole.format(one));
export const percent = (value) => known(value, (one) => share.format(one));
export const decimals = (value) => known(value, (one) => loss.format(one));
export const day = (seconds) => known(seconds, (one) => date.format(new Date(1000 * one)));

export function bytes(value) {
  return known(value, (one) => {
    let rest = one;
    let place = 0;
    while (rest >= 1000 && place < UNITS.length - 1) {
      rest /= 1000;
      place += 1;
    }
    return new Intl.NumberFormat(language, {
      style: "unit", unit: UNITS[place], unitDisplay: "short", maximumFractionDigits: place ? 1 : 0,
    }).format(rest);
  });
}

export function degrees(value) {
  return known(value, (one) =>
    new Intl.NumberFormat(language, { style: "unit", unit: "celsius", maximumFractionDigits: 1 }).format(one));
}

const unit = (value, name, digits = 0) =>
  new Intl.NumberFormat(language, { style: "unit", unit: name, unitDisplay: "narrow", maximumFractionDigits: digits })
    .format(value);

export function duration(seconds) {
  return known(seconds, (one) => {
    if (one < 60) return unit(one, "second", one < 10 ? 1 : 0);
    if (one < 3600) return `${unit(Math.floor(one / 60), "minute")} ${unit(Math.floor(one % 60), "second")}`;
    return `${unit(Math.floor(one / 3600), "hour")} ${unit(Math.floor((one % 3600) / 60), "minute")}`;
  });
}
