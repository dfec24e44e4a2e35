'use strict';

const byId = (id) => document.getElementById(id);

/** Sets the text of an element, if it differs. All data of a run enters the page here, as text. */
function put(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/**
 * Makes the body of a table show `rows`: lists of cells, the first of which names the row. A cell is a text or
 * { text, tone, long }; a tone of null shows no mark. Unchanged cells are left alone, so that a selection or a
 * reader's place stays.
 */
function fill(body, rows) {
  while (body.rows.length > rows.length) {
    body.deleteRow(-1);
  }
  rows.forEach((cells, index) => {
    const row = body.rows[index] ?? body.insertRow();
    cells.forEach((cell, column) => {
      const { text, tone, long } = typeof cell === 'string' ? { text: cell } : cell;
      let place = row.cells[column];
      if (place === undefined) {
        place = document.createElement(column === 0 ? 'th' : 'td');
        if (column === 0) {
          place.scope = 'row';
        }
        row.append(place);
      }
      put(place, text);
      if (tone === null) {
        delete place.dataset.tone;
      } else if (tone !== undefined) {
        place.dataset.tone = tone;
      }
      if (long) {
        place.className = 'text';
      }
    });
  });
}

const bodyOf = (id) => byId(id).querySelector('tbody');

function list(place, lines) {
  place.replaceChildren(
    ...lines.map((line) => {
      const item = document.createElement('li');
      item.textContent = line;
      return item;
    })
  );
}

/** State of the run. */
const state = { run: null, points: [], faults: [] };

/** Rates between each point and the one before it; none at the first. */
function rates(points) {
  return points.map((point, index) => {
    const before = points[index - 1];
    const rate = (field) => (before ? (point[field] - before[field]) / (point.seconds - before.seconds) : null);
    return { seconds: point.seconds, offered: rate('offered'), delivered: rate('delivered') };
  });
}

const rateChart = new Chart(byId('rates'), {
  series: [
    { name: 'delivered', colour: 'blue', dash: '', of: (point) => point.delivered },
    // On top, so that both lines are visible if they are equal.
    { name: 'offered', colour: 'orange', dash: 'dashed', of: (point) => point.offered },
  ],
  format: (value) => value.toLocaleString('en', { notation: value >= 1e5 ? 'compact' : 'standard' }),
  log: false,
});

const delayChart = new Chart(byId('delays'), {
  series: [
    { name: 'p99.9', colour: 'red', dash: 'dotted', of: (point) => point.p999_micros },
    { name: 'p99', colour: 'orange', dash: 'dashed', of: (point) => point.p99_micros },
    { name: 'p90', colour: 'green', dash: '', of: (point) => point.p90_micros },
    { name: 'p50', colour: 'blue', dash: '', of: (point) => point.p50_micros },
  ],
  format: micros,
  log: true,
});

function showRun(run) {
  const steady = `${bytes(run.message_size_bytes)} every ${run.heartbeat_millis} ms`;
  const sends = run.trials > 0 ? `${run.trials} trials` : steady;
  const network = `${run.network_protocol} over ${run.transport}`;
  put(byId('workload'), `${run.num_nodes} nodes, mode ${run.mode}, ${network}, ${sends}`);
  put(byId('folder'), run.folder);
  list(byId('stages'), run.stages);
  // Trials have no times to reach.
  byId('reach').hidden = run.trials > 0;
}

/** Text of the phase, the only live region for a screen reader. */
function showPhase(text) {
  put(byId('phase'), text);
  const title = `${text} – Apollo Network Benchmark`;
  if (document.title !== title) {
    document.title = title;
  }
}

/** Deliveries of the window that never came; null if the run has no totals. */
const lostOf = ({ totals }) => (totals === null ? null : Math.max(0, totals.expected - totals.delivered));

/** The validity of the measurement, and its loss: a valid measurement of a bad network is valid. */
function verdictText(result) {
  const measured = result.verdict.valid ? 'valid measurement' : 'the measurement is not valid';
  const lost = lostOf(result);
  if (lost === null || result.totals.expected === 0) {
    return measured;
  }
  const expected = number(result.totals.expected);
  return `${measured}; ${lost === 0 ? `all ${expected} deliveries arrived` : `${number(lost)} of ${expected} deliveries lost`}`;
}

/** Time on the one clock of the page: seconds from the opening of the window, or from the start until that is known. */
function place(message) {
  const opening = message.opening_seconds;
  const length = state.run.window_seconds;
  if (opening === null) {
    return `${clock(message.elapsed_seconds)} since the start`;
  }
  const since = message.elapsed_seconds - opening;
  if (since < 0) {
    return `${clock(-since)} to the opening of the window`;
  }
  if (length === null) {
    return `${clock(since)} since the opening`;
  }
  return since <= length ? `${clock(since)} of ${clock(length)}` : `${clock(since - length)} after the window`;
}

function phaseText(message) {
  const texts = {
    start: 'Starting',
    connect: 'Connecting the nodes',
    links: `Links: ${message.detail}`,
    'warm-up': 'Warming up',
    measure: 'Measuring',
    drain: 'Waiting for late messages',
    explore: 'Exploring',
    collect: 'Collecting the results',
  };
  if (message.result) {
    return `Finished: ${verdictText(message.result)}`;
  }
  return texts[message.phase] ?? message.phase;
}

function showProgress(message) {
  [...byId('stages').children].forEach((item, index) => {
    item.classList.toggle('past', index < message.stage);
    if (index === message.stage) {
      item.setAttribute('aria-current', 'step');
    } else {
      item.removeAttribute('aria-current');
    }
  });
  byId('part').value = message.part;
  put(byId('detail'), `${place(message)}${message.detail && ': '}${message.detail}`);
}

function showFigures(figures) {
  put(byId('offered'), number(figures.offered_per_second));
  put(byId('delivered'), number(figures.delivered_per_second));
  put(byId('bytes'), perSecond(figures.delivered_bytes_per_second));
  put(byId('ratio'), percent(figures.delivery_ratio));
  const counts = `${number(figures.delivered)} of ${number(figures.expected)}`;
  put(byId('ratio-of'), figures.expected > 0 ? counts : 'of the window');
  put(byId('pending'), number(figures.pending));
  put(byId('dropped'), number(figures.dropped));
  put(byId('cores'), number(figures.cores));
  put(byId('memory'), bytes(figures.peak_memory_bytes));
  put(byId('lag'), micros(figures.send_lag_p99_micros));
  for (const name of ['p50_micros', 'p90_micros', 'p99_micros', 'p999_micros']) {
    put(byId(name), micros(figures.delay[name]));
  }
}

const describe = (id, text) => byId(id).setAttribute('aria-label', text);

/** Names of the known percentiles, and their texts; a percentile among missing values with its lower bound. */
function percentilesOf(delay) {
  const names = { p50: 'p50', p90: 'p90', p99: 'p99', p999: 'p99.9', max: 'max' };
  const text = (key, at) => {
    const bound = delay.quantiles?.[at]?.at_least_micros ?? null;
    return bound === null ? micros(delay[`${key}_micros`]) : `> ${micros(bound)}`;
  };
  return Object.entries(names)
    .map(([key, name], at) => ({ key, name, text: text(key, at) }))
    .filter(({ key }) => `${key}_micros` in delay);
}

/** Known percentiles in a line. */
const spread = (delay) => percentilesOf(delay).map(({ name, text }) => `${name} ${text}`).join(', ');

/** Times to reach; an explore run, and one whose nodes report no single arrivals, have none. */
function showReach(totals) {
  const shares = { reach_1_3: '1/3', reach_2_3: '2/3', reach_all: 'all' };
  const known = Object.keys(shares).filter((key) => totals?.[key]);
  byId('reach').querySelector('.wide').hidden = known.length === 0;
  if (known.length === 0) {
    put(byId('reach-note'), 'Unknown: the run has no single arrivals of its messages.');
    return;
  }
  const { messages, sampled_share: share } = totals.reach;
  put(byId('reach-note'), `Of ${number(messages)} messages${share < 1 ? `, a sample of ${percent(share)}` : ''}.`);
  const row = (key) => [
    shares[key],
    ...percentilesOf(totals[key]).map(({ text }) => text),
    { text: number(totals[key].missing), tone: totals[key].missing > 0 ? 'bad' : null },
  ];
  fill(bodyOf('reach'), known.map(row));
}

function sustained(verdict) {
  const words = { true: 'yes', false: 'no', null: 'unknown' };
  return words[verdict.sustained] + (verdict.reason === '' ? '' : ` (${verdict.reason})`);
}

function showCharts(message) {
  const course = rates(state.points);
  const opening = message.opening_seconds;
  const origin = opening ?? 0;
  const moved = (points) => points.map((point) => ({ ...point, seconds: point.seconds - origin }));
  const marks = state.faults
    .map(({ began_seconds: began }, index) => ({ seconds: began, name: String(index + 1) }))
    .filter(({ seconds }) => seconds !== null);
  const length = state.run.window_seconds;
  const measured = opening === null || length === null ? null : { from: 0, to: length };
  rateChart.update(moved(course), marks, measured);
  delayChart.update(moved(state.points), marks, measured);
  put(byId('clock'), opening === null ? 'Times are seconds since the start.' : 'Times are seconds from the opening of the window.');
  byId('marks').hidden = marks.length === 0;
  byId('shade').hidden = measured === null;
  if (course.length < 2) {
    return;
  }
  const last = course[course.length - 1];
  const span = `From ${clock(course[0].seconds - origin)} to ${clock(last.seconds - origin)}`;
  const range = (field) => {
    const values = course.slice(1).map((point) => point[field]);
    return `${number(Math.min(...values))} to ${number(Math.max(...values))} ${field}, now ${number(last[field])}`;
  };
  describe('rates', `Deliveries per second. ${span}: ${range('offered')}; ${range('delivered')}.`);
  const delays = state.points.filter((point) => point.p50_micros !== null);
  if (delays.length > 0) {
    const worst = Math.max(...delays.map((point) => point.p99_micros));
    describe('delays', `Delays. ${span}: last ${spread(delays[delays.length - 1])}; highest p99 ${micros(worst)}.`);
  }
}

const TONES = { answering: 'good', ready: 'good', silent: 'fair', paused: 'fair', returning: 'fair', dead: 'bad' };

/** Messages that have not arrived, those under way included: more than a hundredth of the expected ones stand out. */
function missing({ expected, received }) {
  if (expected === null) {
    return NONE;
  }
  const count = Math.max(0, expected - received);
  return { text: number(count), tone: count > expected / 100 && count > 10 ? 'bad' : null };
}

function showNodes(nodes) {
  const row = (node) => [
    String(node.node),
    { text: node.state, tone: TONES[node.state] ?? '' },
    number(node.connected_peers),
    number(node.sent),
    number(node.expected),
    number(node.received),
    missing(node),
    micros(node.delay_p99_micros),
    micros(node.send_lag_p99_micros),
    { text: number(node.dropped), tone: node.dropped > 0 ? 'bad' : null },
    number(node.cores),
    bytes(node.peak_memory_bytes),
  ];
  fill(bodyOf('nodes'), nodes.map(row));
}

function showFaults(faults, ended) {
  const later = ended ? 'never came' : 'to come';
  const row = (fault, index) => {
    const begun = fault.began_seconds === null ? { text: later, tone: '' } : { text: 'under way', tone: 'fair' };
    return [
      String(index + 1),
      fault.fault,
      fault.done_seconds === null ? begun : { text: 'done', tone: 'good' },
      seconds(fault.began_seconds),
      seconds(fault.done_seconds),
      { text: fault.seen ?? NONE, long: true },
    ];
  };
  byId('faults').hidden = faults.length === 0;
  fill(bodyOf('faults'), faults.map(row));
}

function showLinks(links, count) {
  const both = (link, text) => [link.before, link.after].map((measured) => (measured === null ? NONE : text(measured)));
  const rate = (kilobytes, without) => (kilobytes === null ? without : `${number(kilobytes)} KB/s`);
  const oneWay = (measured) => micros(measured.one_way_p50_micros);
  const lost = (measured) => `${number(measured.lost)} of ${number(measured.packets)}`;
  const throughput = ({ throughput_bytes_per_second: found }) => rate(found === null ? null : found / 1000, NONE);
  const row = (link) => [
    `${link.from} → ${link.to}`,
    { text: link.problems.join('; ') || 'none', tone: link.problems.length === 0 ? 'good' : 'bad', long: true },
    `${number(link.latency_millis)} ms`,
    ...both(link, oneWay),
    `${number(link.loss_percent)} %`,
    ...both(link, lost),
    rate(link.throughput_kilobytes_per_second, 'no limit'),
    ...both(link, throughput),
  ];
  byId('links').hidden = links.length === 0;
  const some = count > links.length ? ` (${links.length} of ${count}, those with problems first)` : '';
  put(byId('links-caption'), `Configured and measured, before the window and after it${some}`);
  fill(bodyOf('links'), links.map(row));
}

function showTrials(trials) {
  const row = (trial) => [
    String(trial.trial),
    bytes(trial.message_size),
    `${trial.heartbeat_millis} ms`,
    perSecond((trial.message_size * 1000) / trial.heartbeat_millis),
    number(trial.expected),
    number(trial.delivered),
    { text: percent(trial.delivery_ratio), tone: trial.delivery_ratio === 1 ? 'good' : 'fair' },
    number(trial.missed),
    micros(trial.delay.p50_micros),
    micros(trial.delay.p99_micros),
  ];
  byId('trials').hidden = trials.length === 0;
  fill(bodyOf('trials'), trials.map(row));
}

function showResult(result) {
  const { verdict, totals } = result;
  const text = verdictText(result);
  put(byId('verdict'), `${verdict.valid ? '✓' : '✗'} ${text[0].toUpperCase()}${text.slice(1)}`);
  byId('verdict').classList.toggle('bad', !verdict.valid);
  byId('verdict').classList.toggle('fair', verdict.valid && lostOf(result) > 0);
  list(byId('reasons'), verdict.reasons);
  list(byId('warnings').querySelector('ul'), verdict.warnings);
  byId('warnings').hidden = verdict.warnings.length === 0;
  // A run of trials has no totals: each trial has its own.
  const window = totals === null ? [] : [
    ['Window', `${number(totals.window_seconds)} s`],
    ['Sent', `${number(totals.sent)} of ${number(totals.intended)} intended, ${number(totals.late)} late`],
    ['Not sent', `${number(totals.missed)} missed, ${number(totals.dropped)} dropped before the wire`],
    ['Delivered', `${number(totals.delivered)} of ${number(totals.expected)} (${percent(totals.delivery_ratio)})`],
    ['Sustained', sustained(totals.sustained)],
    ['Backlog at the end', `${number(totals.backlog_at_end)} deliveries`],
    ['Duplicates', `${number(totals.duplicates)} (${number(totals.reordered)} out of order)`],
    ['Messages', `${number(totals.sent_per_second)}/s sent, ${perSecond(totals.sent_bytes_per_second)}`],
    ['Throughput', `${perSecond(totals.delivered_bytes_per_second)} delivered in the window`],
    ['Delay', spread(totals.delay)],
    ['Send lag', spread(totals.send_lag)],
    ['Processor time', `${seconds(totals.cpu_seconds)} of all nodes`],
  ];
  fill(bodyOf('totals'), [
    ...window,
    ['Runner', result.runner_cpu_percent === null ? NONE : `${result.runner_cpu_percent.toFixed(2)} % of a core`],
    ['Peak memory', `${bytes(result.peak_memory_bytes)} of all nodes`],
    ['Ready after', seconds(result.ready_seconds)],
  ]);
  byId('phases').hidden = result.phases.length === 0;
  fill(bodyOf('phases'), result.phases.map((phase) => [
    String(phase.number),
    `${short(phase.from_seconds)} to ${short(phase.to_seconds)} s`,
    { text: phase.events.join('; ') || NONE, long: true },
    number(phase.sent),
    number(phase.expected),
    number(phase.delivered),
    number(phase.delivered_after_end),
    number(phase.lost),
    micros(phase.delay.p50_micros),
    micros(phase.delay.p99_micros),
  ]));
  // A percentile among missing deliveries has a lower bound in the result alone.
  for (const { key, text } of percentilesOf(totals?.delay ?? {})) {
    const tile = byId(`${key}_micros`);
    if (tile !== null) {
      put(tile, text);
    }
  }
  showReach(totals);
  byId('going').hidden = true;
  byId('result').hidden = false;
}

function show(message) {
  if (message.run) {
    state.run = message.run;
    showRun(message.run);
  }
  state.points.length = Math.min(state.points.length, message.points_from);
  state.points.push(...message.points);
  if (message.faults) {
    state.faults = message.faults;
    showFaults(message.faults, message.result !== undefined);
    showLinks(message.links, message.links_count);
    showTrials(message.trials);
  }
  showPhase(phaseText(message));
  showProgress(message);
  showFigures(message.figures);
  showNodes(message.nodes);
  showCharts(message);
  if (message.result) {
    showResult(message.result);
  }
}

/** Follows the run until its result has arrived; connects again by itself after an interruption. */
function follow() {
  const events = new EventSource('events');
  events.onmessage = (event) => {
    const message = JSON.parse(event.data);
    show(message);
    if (message.result) {
      events.close();
    }
  };
  events.onerror = () => {
    showPhase('No connection to the runner; trying again');
    if (events.readyState === EventSource.CLOSED) {
      setTimeout(follow, 3000);
    }
  };
}

/** Switch of colours: the preference of the system, until it is pressed. */
function theme() {
  const button = byId('theme');
  const prefers = matchMedia('(prefers-color-scheme: dark)');
  const read = () => {
    try {
      return localStorage.getItem('theme');
    } catch {
      return null;
    }
  };
  const apply = (chosen) => {
    const dark = chosen === null ? prefers.matches : chosen === 'dark';
    button.setAttribute('aria-pressed', String(dark));
    if (chosen !== null) {
      document.documentElement.dataset.theme = chosen;
    }
  };
  button.addEventListener('click', () => {
    const chosen = button.getAttribute('aria-pressed') === 'true' ? 'light' : 'dark';
    try {
      localStorage.setItem('theme', chosen);
    } catch {
      // The choice is not remembered then.
    }
    apply(chosen);
  });
  prefers.addEventListener('change', () => apply(read()));
  apply(read());
}

/** Shows a hint above each table that is wider than its place. */
function hints() {
  for (const region of document.querySelectorAll('.wide')) {
    const hint = document.createElement('p');
    hint.className = 'quiet hint';
    hint.textContent = 'Scroll sideways for more columns →';
    hint.hidden = true;
    region.before(hint);
    const check = () => {
      hint.hidden = region.scrollWidth <= region.clientWidth + 1;
    };
    const sizes = new ResizeObserver(check);
    sizes.observe(region);
    sizes.observe(region.querySelector('table'));
  }
}

theme();
hints();
follow();
