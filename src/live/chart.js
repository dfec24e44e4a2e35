'use strict';

/** A small line chart, drawn again at the size of its place, so that its text stays readable. */
class Chart {
  /**
   * series: a list of { name, colour, dash, of } where `of` takes a point to its value, or to null.
   * format: from a value to its text. log: true if the axis of values is logarithmic.
   */
  constructor(svg, { series, format, log }) {
    Object.assign(this, { svg, series, format, log });
    this.points = [];
    this.marks = [];
    this.window = null;
    new ResizeObserver(() => this.draw()).observe(svg);
  }

  /** points: with `seconds`. marks: a list of { seconds, name }. window: { from, to } or null. */
  update(points, marks, window) {
    Object.assign(this, { points, marks, window });
    this.draw();
  }

  draw() {
    const width = this.svg.clientWidth;
    const height = this.svg.clientHeight;
    if (width === 0 || height === 0) {
      return;
    }
    this.svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.svg.replaceChildren();
    const names = Math.max(...this.series.map(({ name }) => name.length));
    const area = { left: 56, right: width - 10 - 7.5 * names, top: 16, bottom: height - 24 };
    if (this.points.length === 0) {
      this.add('text', { x: width / 2, y: height / 2, 'text-anchor': 'middle' }, 'No traffic');
      return;
    }
    const first = this.points[0].seconds;
    const last = Math.max(this.points[this.points.length - 1].seconds, first + 5);
    const x = (seconds) => area.left + ((seconds - first) / (last - first)) * (area.right - area.left);
    this.drawWindow(x, area, first, last);
    this.drawTimes(x, area, first, last);
    const y = this.drawValues(area);
    for (const { seconds, name } of this.marks) {
      if (seconds >= first && seconds <= last) {
        this.add('line', { x1: x(seconds), x2: x(seconds), y1: area.top, y2: area.bottom, class: 'mark' });
        this.add('text', { x: x(seconds), y: area.top - 4, 'text-anchor': 'middle', class: 'name red' }, name);
      }
    }
    this.drawLines(x, y, area);
  }

  add(kind, attributes, text) {
    const element = document.createElementNS('http://www.w3.org/2000/svg', kind);
    for (const [name, value] of Object.entries(attributes)) {
      element.setAttribute(name, typeof value === 'number' ? value.toFixed(1) : value);
    }
    if (text !== undefined) {
      element.textContent = text;
    }
    this.svg.append(element);
  }

  drawWindow(x, area, first, last) {
    if (this.window === null) {
      return;
    }
    const from = Math.max(this.window.from, first);
    const to = Math.min(this.window.to, last);
    if (to > from) {
      const shape = { x: x(from), width: x(to) - x(from), y: area.top, height: area.bottom - area.top };
      this.add('rect', { ...shape, class: 'window' });
    }
  }

  drawTimes(x, area, first, last) {
    const most = Math.max(2, (area.right - area.left) / 56);
    const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400];
    const step = steps.find((length) => (last - first) / length <= most) ?? 86400 * 7;
    for (let time = Math.ceil(first / step) * step; time <= last; time += step) {
      this.add('text', { x: x(time), y: area.bottom + 16, 'text-anchor': 'middle' }, clock(time));
    }
  }

  /** Draws the axis of values, and returns a function from a value to its place. */
  drawValues(area) {
    const values = [];
    for (const { of } of this.series) {
      values.push(...this.points.map(of).filter((value) => value !== null && (!this.log || value > 0)));
    }
    const highest = Math.max(...values, this.log ? 10 : 1);
    const lowest = this.log ? Math.min(...values, highest / 10) : 0;
    const ticks = this.log ? decades(lowest, highest) : evenly(highest, (area.bottom - area.top) / 40);
    const scale = (value) => (this.log ? Math.log10(Math.max(value, 1e-9)) : value);
    const bottom = scale(this.log ? ticks[0] : 0);
    const top = scale(ticks[ticks.length - 1]);
    const y = (value) => {
      const share = (scale(value) - bottom) / (top - bottom);
      return area.bottom - Math.min(1, Math.max(0, share)) * (area.bottom - area.top);
    };
    for (const tick of ticks) {
      this.add('line', { x1: area.left, x2: area.right, y1: y(tick), y2: y(tick), class: 'grid' });
      this.add('text', { x: area.left - 6, y: y(tick) + 4, 'text-anchor': 'end' }, this.format(tick));
    }
    return y;
  }

  drawLines(x, y, area) {
    const names = [];
    for (const { name, colour, dash, of } of this.series) {
      let path = '';
      let pen = 'M';
      let end = null;
      for (const point of this.points) {
        const value = of(point);
        if (value === null) {
          pen = 'M';
          continue;
        }
        end = y(value);
        path += `${pen}${x(point.seconds).toFixed(1)} ${end.toFixed(1)}`;
        // A single point is drawn as a dot.
        path += pen === 'M' ? 'h0' : '';
        pen = 'L';
      }
      if (end !== null) {
        this.add('path', { d: path, class: `${colour} ${dash}` });
        names.push({ name, colour, at: end });
      }
    }
    // Names are at the ends of their lines, and do not overlap.
    names.sort((one, other) => one.at - other.at);
    let above = area.top - 8;
    const starts = names.map(({ at }) => (above = Math.max(at, above + 14)));
    const excess = Math.max(0, above - area.bottom);
    names.forEach(({ name, colour }, index) => {
      const place = { x: area.right + 5, y: starts[index] - excess + 4, class: `name ${colour}` };
      this.add('text', place, name);
    });
  }
}

/** Round values from 0 to beyond `highest`, about `most` of them. */
function evenly(highest, most) {
  const rough = highest / Math.max(2, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  return Array.from({ length: Math.ceil(highest / step - 1e-9) + 1 }, (_, index) => index * step);
}

/** Powers of ten around two values; if they are few, also 2 and 5 times these. */
function decades(lowest, highest) {
  const from = Math.floor(Math.log10(lowest));
  const to = Math.ceil(Math.log10(highest));
  const factors = to - from <= 2 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let power = from; power < to; power += 1) {
    ticks.push(...factors.map((factor) => factor * 10 ** power));
  }
  ticks.push(10 ** to);
  const start = ticks.findLastIndex((tick) => tick <= lowest);
  const end = ticks.findIndex((tick) => tick >= highest);
  return ticks.slice(Math.max(start, 0), end + 1);
}
