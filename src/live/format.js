'use strict';

/** Text of an unknown value. */
const NONE = '–';

function number(value) {
  if (value === null || value === undefined) {
    return NONE;
  }
  const digits = Math.abs(value) < 100 && !Number.isInteger(value) ? 1 : 0;
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function micros(value) {
  if (value === null || value === undefined) {
    return NONE;
  }
  if (value < 1000) {
    return `${Math.round(value)} µs`;
  }
  return value < 1e6 ? `${short(value / 1000)} ms` : `${short(value / 1e6)} s`;
}

function short(value) {
  return String(Number(value.toPrecision(3)));
}

function bytes(value) {
  if (value === null || value === undefined) {
    return NONE;
  }
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 100 ? short(value) : Math.round(value)} ${units[unit]}`;
}

const perSecond = (value) => (value === null ? NONE : `${bytes(value)}/s`);
const seconds = (value) => (value === null || value === undefined ? NONE : `${value.toFixed(2)} s`);

/** A ratio is shown as 1 only if it is exactly 1: no value is rounded up to it. */
function percent(value) {
  if (value === null || value === undefined) {
    return NONE;
  }
  return value === 1 ? '100 %' : `${(Math.floor(value * 10000) / 100).toFixed(2)} %`;
}

/** Seconds from a moment on, shortened; negative before it. */
function clock(seconds) {
  const whole = Math.round(seconds);
  if (whole < 0) {
    return `−${clock(-whole)}`;
  }
  const minutes = Math.floor(whole / 60);
  if (minutes === 0) {
    return `${whole} s`;
  }
  const two = (number) => String(number).padStart(2, '0');
  const hours = Math.floor(minutes / 60);
  return hours === 0 ? `${minutes}:${two(whole % 60)}` : `${hours}:${two(minutes % 60)}:${two(whole % 60)}`;
}
