// SPDX-License-Identifier: Apache-2.0
// data: from the results to what the page shows. Which results belong together, medians, and the
// text of numbers. No access to the document.
'use strict';

const data = (() => {
const NARROW_SPACE = '\u202f';

// --- Text of numbers ---

// Three significant digits, without an exponent.
function exact(n) {
	const digits = n === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(n))));
	return n.toFixed(Math.min(digits, 6));
}

// The same without needless zeros, for what is at an axis.
function short(n) {
	const text = exact(n);
	return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

function grouped(n) {
	return Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, NARROW_SPACE);
}

const count = (n) => (Math.abs(n) >= 100 || Number.isInteger(n) ? grouped(n) : exact(n));

function ratio(n) {
	return (n >= 100 ? grouped(n) : n.toFixed(n < 0.1 ? 3 : n < 10 ? 2 : 1)) + '×';
}

// `digits` is exact or short.
function micros(us, digits = exact) {
	if (us < 1000)
		return (Number.isInteger(us) ? us : digits(us)) + ' µs';
	if (us < 1e6)
		return digits(us / 1e3) + ' ms';
	return (us < 1e9 ? digits(us / 1e6) : grouped(us / 1e6)) + ' s';
}

function bytes(n, digits = exact) {
	const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
	let unit = 0;
	while (n >= 1024 && unit < units.length - 1) {
		n /= 1024;
		unit++;
	}
	return (unit === 0 ? grouped(n) : digits(n)) + ' ' + units[unit];
}

function thousands(n) {
	if (n >= 1e6)
		return short(n / 1e6) + 'M';
	return n >= 1e3 ? short(n / 1e3) + 'k' : short(n);
}

function seconds(s, digits = exact) {
	if (s < 300)
		return digits(s) + ' s';
	return s < 3 * 3600 ? digits(s / 60) + ' min' : digits(s / 3600) + ' h';
}

const percent = (share) => exact(share * 100) + ' %';

// As the axis of a chart shows them.
const tick = { micros: (us) => micros(us, short), bytes: (n) => bytes(n, short),
	seconds: (s) => seconds(s, short) };

// A percentile needs as many digits as it has nines.
function percentile(p) {
	const nines = p >= 1 ? 8 : Math.ceil(-Math.log10(1 - p) - 1e-6);
	const text = (p * 100).toFixed(Math.min(Math.max(nines - 1, 1), 6));
	return text.replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '') + ' %';
}

// --- Repeated runs ---

// The median with the ends of the range; null where no run knows the value.
function spread(values) {
	const known = values.filter((v) => Number.isFinite(v)).sort((a, b) => a - b);
	if (known.length === 0)
		return null;
	const half = known.length >> 1;
	const middle = known.length % 2 ? known[half] : (known[half - 1] + known[half]) / 2;
	return { middle, low: known[0], high: known[known.length - 1], runs: known.length };
}

function sum(values) {
	const known = values.filter((v) => Number.isFinite(v));
	return known.length ? known.reduce((a, b) => a + b, 0) : null;
}

// Options that say where a run took place or what it wrote, not what was measured.
const PLACES = new Set(['label', 'scenario', 'json', 'relay', 'sink', 'relay-pid', 'seed',
	'interval']);

function measured(options) {
	return Object.entries(options).filter(([name]) => !PLACES.has(name)).sort();
}

// A line of the page: all results of one label under the same options in one scenario.
function new_run(result) {
	return { label: result.label, variant: '', name: result.label, results: [],
		options: new Map(measured(result.options)) };
}

// The options in which these runs are not all alike.
function differing(runs) {
	const names = new Set(runs.flatMap((run) => [...run.options.keys()]));
	return [...names].filter((name) =>
		runs.some((run) => run.options.get(name) !== runs[0].options.get(name)));
}

// Runs that share a label in a scenario are told apart by the options that differ.
function name_runs(runs) {
	for (const run of runs) {
		const same = runs.filter((other) => other.label === run.label);
		const parts = differing(same).map((option) =>
			`${option} ${run.options.get(option) ?? 'unset'}`);
		run.variant = parts.join(' · ');
		run.name = [run.label, ...parts].join(' · ');
	}
}

// Results in the order given, as [{ title, runs }] by scenario.
function scenarios(results) {
	const by_scenario = new Map();
	for (const result of results) {
		const title = result.scenario ?? '';
		const runs = by_scenario.get(title) ?? new Map();
		by_scenario.set(title, runs);
		const key = JSON.stringify([result.label, measured(result.options)]);
		if (!runs.has(key))
			runs.set(key, new_run(result));
		runs.get(key).results.push(result);
	}
	return [...by_scenario].map(([title, runs]) => {
		name_runs([...runs.values()]);
		return { title, runs: [...runs.values()] };
	});
}

// `rate.delivered_per_s` of a result; undefined where a part of the way is not there.
function at(result, path) {
	return path.split('.').reduce((value, part) => value?.[part], result);
}

// What a result compares by; undefined for a sink alone.
const rate_of = (result) => result.rate?.delivered_per_s ?? result.rate?.accepted_per_s;

// The result that stands for its run where only one can be drawn: the one of median rate.
function typical(run) {
	const ordered = [...run.results].sort((a, b) => (rate_of(a) ?? 0) - (rate_of(b) ?? 0));
	return ordered[(ordered.length - 1) >> 1];
}

// --- Lines of charts ---

// Points [t, value] of a series, at most `most` of them: neighbours are averaged.
function series_points(result, name, most) {
	const { t_s: t, [name]: values } = result.series;
	if (!values)
		return [];
	const step = Math.max(1, Math.ceil(t.length / most));
	const points = [];
	for (let i = 0; i < t.length; i += step) {
		const part = values.slice(i, i + step).filter((v) => v !== null);
		const end = Math.min(i + step, t.length) - 1;
		points.push([t[end], part.length ? sum(part) / part.length : null]);
	}
	return points;
}

// The distribution of all results of a run together: points [1/(1-p), value], which ends where
// one is left of all that were measured.
function distribution(run, name) {
	const counts = new Map();
	let least = Infinity;
	let most = 0;
	for (const latency of run.results.map((r) => r.latency_us?.[name])) {
		if (!latency?.count)
			continue;
		least = Math.min(least, latency.min);
		most = Math.max(most, latency.max);
		for (const [bound, n] of latency.buckets)
			counts.set(bound, (counts.get(bound) ?? 0) + n);
	}
	const total = sum([...counts.values()]);
	if (!total)
		return [];
	const points = [[1, least]];
	let below = 0;
	for (const [bound, n] of [...counts].sort((a, b) => a[0] - b[0])) {
		below += n;
		if (n > 0 && below < total)
			points.push([total / (total - below), Math.min(bound, most)]);
	}
	points.push([total, most]);
	return points;
}

return { exact, short, count, ratio, micros, bytes, thousands, seconds, percent, percentile, tick,
	spread, sum, scenarios, differing, at, rate_of, typical, series_points, distribution };
})();
