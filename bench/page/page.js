// SPDX-License-Identifier: Apache-2.0
// page: puts the results of data.js into tables and charts. One section a scenario, one column a
// run; a run keeps its colour on the whole page, and is hidden and shown on the whole page.
'use strict';

(() => {
const { element, swatch, line_chart, bar_chart } = chart;
const COLORS = 8;
const POINTS_MAX = 600;
const GIVEN = JSON.parse(document.getElementById('results').textContent);
const results = GIVEN.results;
const sections = data.scenarios(results);
const names = [...new Set(sections.flatMap((s) => s.runs.map((run) => run.name)))];
const hidden = new Set();
let reference = names[0];

function style_of(name) {
	const i = names.indexOf(name);
	return { color: `var(--run-${i % COLORS})`,
		dash: [null, '6 3', '2 3', '9 3 2 3'][Math.floor(i / COLORS) % 4] };
}

const off = (run) => (hidden.has(run.name) ? 'off' : null);
const shown = (runs) => runs.filter((run) => !hidden.has(run.name));

function join(words) {
	const last = words[words.length - 1];
	return words.length < 2 ? words.join('') : words.slice(0, -1).join(', ') + ' and ' + last;
}

function plural(n, word) {
	return `${data.count(n)}\u00a0${word}${n === 1 ? '' : 's'}`;
}

// --- The rows of a table ---

// A row is { id, title, of(result), text, better, total, bad, warn, hint(run) }: better is 'high'
// or 'low' where one is; total rows show the sum over the repeated runs, so that no median hides
// what happened once; bad and warn colour what is above 0; quiet rows of zeros are left out.
const value = (id, title, path, text, more = {}) =>
	({ id, title, of: (result) => data.at(result, path), text, ...more });

const fate = (member, title, more = {}) =>
	value(member, title, `totals.${member}`, data.count, { total: true, ...more });

function per_mail(path) {
	return (result) => {
		const total = data.at(result, path);
		const mails = result.totals.mails_offered;
		return total === undefined || !mails ? undefined : total / mails;
	};
}

const cores = (path) => (result) => {
	const used = data.sum(path.map((part) => data.at(result, part)));
	return used === null || !result.time?.total_s ? undefined : used / result.time.total_s;
};

// Where nothing was measured the percentiles are 0 and mean nothing.
const latency_rows = (name) => [['p50', '50 %'], ['p99', '99 %'], ['p999', '99.9 %'],
	['max', 'max']].map(([key, title]) => value(`${name}.${key}`, title,
	`latency_us.${name}.${key}`, data.micros,
	{ better: 'low', needs: `latency_us.${name}.count` }));

function without_relay_hint(run) {
	const parts = run.results.map((r) => r.rate).filter((r) => r?.without_relay_before_per_s)
		.map((r) => `${data.count(r.without_relay_before_per_s)} before` + (
			r.without_relay_after_per_s
				? `, ${data.count(r.without_relay_after_per_s)} after` : ''));
	return parts.length ? 'without relay: ' + parts.join('; ') : null;
}

const ROWS = [
	{ group: 'Rate' },
	value('delivered', 'delivered a second', 'rate.delivered_per_s', data.count,
		{ better: 'high', lead: true }),
	{ id: 'ratio', title: 'ratio to the reference', ratio: true, text: data.ratio },
	value('accepted', 'accepted a second', 'rate.accepted_per_s', data.count,
		{ better: 'high' }),
	value('share', 'share of the rate without relay', 'rate.share_without_relay', data.percent,
		{ hint: without_relay_hint }),
	value('duration', 'first offer to last arrival', 'time.total_s', data.seconds),
	{ group: 'Latency of accept', hint: 'from the end of data to its 250' },
	...latency_rows('accept'),
	{ group: 'Latency end to end', hint: 'from the intended offer to the arrival' },
	...latency_rows('end_to_end'),
	{ group: 'Cost of the relay' },
	value('cpu_mail', 'CPU a mail', 'relay.cpu_us_per_mail', data.micros, { better: 'low' }),
	{ id: 'cores', title: 'CPU, cores on average', text: data.exact,
		of: cores(['relay.user_s', 'relay.system_s']) },
	value('pss', 'memory (PSS), peak', 'relay.pss_peak_bytes', data.bytes, { better: 'low' }),
	{ id: 'switches', title: 'context switches a mail', text: data.exact, better: 'low',
		of: per_mail('relay.context_switches') },
	{ id: 'written', title: 'written to disk a mail', text: data.bytes, better: 'low',
		of: per_mail('relay.bytes_written') },
	{ id: 'load', title: 'CPU of source and sink, cores', text: data.exact,
		of: cores(['load.source_cpu_s', 'load.sink_cpu_s']) },
	{ group: 'Outcome, all runs', hint: 'sums over the repeated runs' },
	fate('recipients_accepted', 'recipients accepted'),
	fate('recipients_delivered', 'recipients delivered'),
	fate('recipients_caught', 'recipients caught'),
	fate('lost', 'lost', { bad: true }),
	fate('duplicated', 'delivered twice', { warn: true }),
	fate('unacknowledged_delivered', 'delivered without a 250', { warn: true }),
	fate('mails_refused', 'mails refused', { warn: true }),
	fate('mails_in_doubt', 'mails in doubt', { warn: true }),
	fate('mails_not_offered', 'mails not offered in time', { warn: true, quiet: true }),
	fate('foreign', 'foreign arrivals', { warn: true, quiet: true }),
	fate('connection_errors', 'connection errors', { warn: true }),
];

function values_of(row, run) {
	return run.results.map((result) =>
		(row.needs && !data.at(result, row.needs) ? undefined : row.of(result)));
}

// The ends of a range, where they can be told apart.
function range_of(s, text) {
	const [low, high] = [text(s.low), text(s.high)];
	return low === high ? null : `${low} – ${high}`;
}

// What a cell shows: { main, range, title }, or null where it is not known.
function cell_of(row, run, section) {
	if (row.ratio)
		return names.length < 2 ? null : ratio_cell(run, section);
	const values = values_of(row, run);
	if (row.total) {
		const all = data.sum(values);
		const in_runs = values.filter((v) => v > 0).length;
		const some = (row.bad || row.warn) && all > 0 && run.results.length > 1;
		return all === null ? null : { main: all, text: row.text(all),
			range: some ? `in ${in_runs} of ${run.results.length} runs` : null };
	}
	const s = data.spread(values);
	if (s === null)
		return null;
	return { main: s.middle, text: row.text(s.middle), range: range_of(s, row.text) };
}

// --- Ratios ---

function rate_spread(run) {
	return data.spread(run.results.map(data.rate_of));
}

// The rates of a run as multiples of the reference's median; null without a reference.
function ratios(run, section) {
	const base = section.runs.find((other) => other.name === reference);
	const base_rate = base ? rate_spread(base) : null;
	const own = rate_spread(run);
	if (!base_rate?.middle || own === null)
		return null;
	return { middle: own.middle / base_rate.middle, low: own.low / base_rate.middle,
		high: own.high / base_rate.middle, runs: own.runs };
}

function ratio_cell(run, section) {
	const s = ratios(run, section);
	if (s === null)
		return null;
	return { main: s.middle, text: data.ratio(s.middle), range: range_of(s, data.ratio) };
}

// --- Tables ---

function best_of(row, cells) {
	const known = cells.filter((cell) => cell !== null).map((cell) => cell.main);
	if (!row.better || new Set(known).size < 2)
		return null;
	return row.better === 'high' ? Math.max(...known) : Math.min(...known);
}

function draw_cell(row, run, cell, best) {
	const mark = cell !== null && cell.main > 0 && (row.bad ? 'bad' : row.warn && 'warn');
	const kind = [mark, cell !== null && cell.main === best && 'best',
		row.lead && 'lead', off(run)].filter(Boolean).join(' ');
	const attributes = { class: kind || null, 'data-run': run.name, 'data-row': row.id,
		title: row.hint ? row.hint(run) : null };
	if (cell === null)
		return element('td', attributes, '–');
	return element('td', { ...attributes, 'data-value': cell.main }, cell.text,
		cell.range ? element('span', { class: 'range' }, cell.range) : null);
}

const SHOWN_OPTIONS = ['mode', 'size', 'connections'];

// Options as rows: those one always asks for, and those in which the runs differ.
function option_rows(section) {
	const asked = SHOWN_OPTIONS.filter((name) =>
		section.runs.some((run) => run.options.has(name)));
	return [...new Set([...asked, ...data.differing(section.runs)])];
}

function run_name(run) {
	return [element('span', { class: 'run-name' }, swatch(style_of(run.name)), run.label),
		run.variant ? element('span', { class: 'range' }, run.variant) : null];
}

function table_head(section) {
	return element('thead', {}, element('tr', {}, element('td', {}),
		section.runs.map((run) => element('th', { scope: 'col', 'data-run': run.name,
			class: off(run) },
		run_name(run),
		element('span', { class: 'range' }, run.name === reference && names.length > 1
			? 'reference · ' : '', plural(run.results.length, 'run'))))));
}

// The names again, since the table is longer than a screen; not in the first group.
function group_row(section, row, first) {
	return element('tr', { class: 'group' },
		element('th', { scope: 'row', title: row.hint }, row.group),
		section.runs.map((run) =>
			element('td', { class: off(run) },
				first || section.runs.length < 2 ? null : run_name(run))));
}

function draw_table(section) {
	const body = element('tbody');
	const options = option_rows(section);
	for (const name of options)
		body.append(element('tr', { class: 'option' },
			element('th', { scope: 'row' }, name),
			section.runs.map((run) => element('td', { 'data-run': run.name,
				'data-row': `option.${name}`, class: off(run) },
			run.options.get(name) ?? '–'))));
	let group = null;
	let first = true;
	for (const row of ROWS) {
		if (row.group) {
			group = row;
			continue;
		}
		const cells = section.runs.map((run) => cell_of(row, run, section));
		if (cells.every((cell) => cell === null || (row.quiet && cell.main === 0)))
			continue;
		if (group !== null) {
			body.append(group_row(section, group, first));
			first = false;
		}
		group = null;
		const best = best_of(row, cells);
		body.append(element('tr', {}, element('th', { scope: 'row' }, row.title),
			section.runs.map((run, i) => draw_cell(row, run, cells[i], best))));
	}
	return element('table', { class: 'runs' }, table_head(section), body);
}

function plain_table(head, rows) {
	return element('div', { class: 'scroll' }, element('table', { class: 'plain' },
		element('thead', {}, element('tr', {}, head.map((text) =>
			element('th', { scope: 'col' }, text)))),
		element('tbody', {}, rows.map((row) => element('tr', {}, row.map((cell, i) =>
			element(i ? 'td' : 'th', i ? {} : { scope: 'row' }, cell)))))));
}

function single_runs(section) {
	const rows = section.runs.flatMap((run) => run.results.map((r) => [run.name, r.file,
		r.started, data.rate_of(r) === undefined ? '–' : data.count(data.rate_of(r)),
		r.latency_us?.end_to_end?.count ? data.micros(r.latency_us.end_to_end.p99) : '–',
		r.totals.lost === undefined ? '–' : data.count(r.totals.lost)]));
	return plain_table(['run', 'file', 'started', 'rate, a second', 'end to end 99 %', 'lost'],
		rows);
}

function process_table(section) {
	const rows = section.runs.flatMap((run) => {
		const result = data.typical(run);
		return (result.relay?.processes ?? []).map((p) => [run.name, p.name,
			data.count(p.count), data.seconds(p.user_s), data.seconds(p.system_s)]);
	});
	const head = ['run', 'process', 'count', 'user', 'system'];
	return rows.length ? plain_table(head, rows) : null;
}

function option_table(section) {
	const all = [...new Set(section.runs.flatMap((run) => [...run.options.keys()]))].sort();
	return plain_table(['option', ...section.runs.map((run) => run.name)],
		all.map((name) => [name,
			...section.runs.map((run) => run.options.get(name) ?? '–')]));
}

function details(title, content) {
	return content === null ? null
		: element('details', {}, element('summary', {}, title), content);
}

// --- Charts ---

const TIME = { scale: 'linear', tick: data.tick.seconds,
	text: (t) => `at ${data.tick.seconds(t)}` };
const NINES = { scale: 'nines', tick: (v) => data.percentile(1 - 1 / v),
	text: (v) => `${data.percentile(1 - 1 / v)} of mails` };
const LATENCY = { scale: 'log', tick: data.tick.micros, text: data.micros };
const A_SECOND = { scale: 'linear', tick: data.thousands, text: (v) => data.count(v) + '/s' };
// known(result): a series that a result cannot know is there, but all zeros.
const CHARTS = [
	{ id: 'delivered', title: 'Delivered', note: 'recipients a second, over time',
		series: 'delivered', y: A_SECOND, known: (r) => r.command !== 'source' },
	{ id: 'queued', title: 'Queue', note: 'recipients accepted and not delivered, over time',
		series: 'queued', known: (r) => r.command === 'run',
		y: { scale: 'linear', tick: data.thousands, text: data.count } },
	{ id: 'accept', title: 'Latency of accept', note: 'end of data to 250, by percentile',
		latency: 'accept', y: LATENCY },
	{ id: 'end_to_end', title: 'Latency end to end', latency: 'end_to_end',
		note: 'intended offer to arrival, by percentile', y: LATENCY },
	{ id: 'relay_cpu', title: 'CPU of the relay', note: 'cores, over time', series: 'relay_cpu',
		known: (r) => r.relay,
		y: { scale: 'linear', tick: data.short, text: (v) => `${data.exact(v)} cores` } },
	{ id: 'pss', title: 'Memory of the relay', note: 'PSS of all its processes, over time',
		series: 'relay_pss_bytes', known: (r) => r.relay,
		y: { scale: 'binary', tick: data.tick.bytes, text: data.bytes } },
	{ id: 'errors', title: 'Errors', note: 'a second, over time', series: 'errors', rare: true,
		y: A_SECOND },
];

function lines_of(kind, run) {
	const line = (points, faint) => ({ name: run.name, ...style_of(run.name), points, faint });
	if (kind.latency)
		return [line(data.distribution(run, kind.latency), false)];
	const typical = data.typical(run);
	return run.results.filter(kind.known ?? (() => true)).map((result) =>
		line(data.series_points(result, kind.series, POINTS_MAX), result !== typical));
}

function chart_spec(kind, section) {
	const runs = shown(section.runs);
	return { ...kind, x: kind.latency ? NINES : TIME,
		lines: runs.flatMap((run) => lines_of(kind, run)),
		empty: runs.length ? 'Not measured in these runs.' : 'All runs are hidden.' };
}

function is_worth_drawing(kind, section) {
	const points = section.runs.flatMap((run) => lines_of(kind, run))
		.flatMap((line) => line.points);
	return kind.rare ? points.some((p) => p[1] > 0) : points.length > 0;
}

// --- What a reader should know before believing a figure ---

function cautions_of(run) {
	const found = [];
	const share = data.spread(run.results.map((r) => r.rate?.share_without_relay));
	if (share !== null && share.middle >= 0.8)
		found.push(`${run.name} reached ${data.percent(share.middle)} of the rate ` +
			'without a relay: source and sink limit this figure, ' +
			'the relay may be faster.');
	// A rate of 0 was not measured.
	const unsteady = run.results.filter(({ rate: r }) =>
		r?.without_relay_before_per_s && r.without_relay_after_per_s &&
		Math.abs(Math.log(r.without_relay_after_per_s / r.without_relay_before_per_s)) >
			Math.log(1.15));
	if (unsteady.length)
		found.push(`${run.name}: the rate without relay changed by more than 15 % during ` +
			`${plural(unsteady.length, 'run')}; the machine was not steady.`);
	const s = rate_spread(run);
	if (s !== null && s.high > 1.2 * s.low)
		found.push(`${run.name}: its fastest run has ${data.ratio(s.high / s.low)} the ` +
			'rate of its slowest.');
	return found;
}

function caution_list(section) {
	const found = section.runs.flatMap(cautions_of);
	return found.length ? element('ul', { class: 'cautions' },
		found.map((text) => element('li', {}, text))) : null;
}

function conditions(section) {
	const differ = new Set(data.differing(section.runs));
	const parts = SHOWN_OPTIONS.filter((name) => !differ.has(name) &&
		section.runs[0].options.has(name))
		.map((name) => `${name} ${section.runs[0].options.get(name)}`);
	const total = data.sum(section.runs.map((run) => run.results.length));
	return [...parts, plural(total, 'run')].join(' · ');
}

const REPEATED = 'Figures are medians with least and greatest of the repeated runs. Over time ' +
	'the strong line is the run of median rate, the faint ones are the others; distributions ' +
	'hold all runs together.';

function draw_section(section, index) {
	const table_host = element('div', { tabindex: 0, role: 'region', 'aria-label': 'Figures',
		class: section.runs.length < 2 ? 'scroll narrow' : 'scroll' });
	const charts = CHARTS.filter((kind) => is_worth_drawing(kind, section)).map((kind) =>
		({ kind, ...line_chart(chart_spec(kind, section)) }));
	const node = element('section', { id: `scenario-${index}`, 'data-scenario': section.title },
		element('h2', {}, section.title || 'All runs'),
		element('p', { class: 'conditions' }, conditions(section)),
		caution_list(section), table_host,
		element('div', { class: 'charts' }, charts.map(({ card }) => card)),
		section.runs.some((run) => run.results.length > 1)
			? element('p', { class: 'hint' }, REPEATED) : null,
		details('Single runs', single_runs(section)),
		details('Processes of the relay', process_table(section)),
		details('Options', option_table(section)));
	const redraw = () => {
		table_host.replaceChildren(draw_table(section));
		for (const { kind, redraw: redraw_chart } of charts)
			redraw_chart(chart_spec(kind, section));
	};
	return { node, redraw };
}

// --- The top of the page ---

function machines() {
	const texts = results.map(({ machine: m }) => [m.cpu, plural(m.cpus, 'CPU'),
		data.bytes(m.memory_bytes), `Linux ${m.kernel}`].filter(Boolean).join(' · '));
	return [...new Set(texts)];
}

function verdict() {
	const judged = results.filter((r) => r.totals.lost !== undefined);
	const losers = judged.filter((r) => r.totals.lost > 0);
	if (judged.length === 0)
		return null;
	if (losers.length === 0)
		return element('p', { class: 'verdict good' },
			`No accepted mail was lost in ${judged.length === 1 ? 'this run'
				: `any of these ${judged.length} runs`}.`);
	const who = [...new Set(losers.map((r) => r.label))].map((label) => {
		const own = losers.filter((r) => r.label === label);
		const lost = data.sum(own.map((r) => r.totals.lost));
		return `${label} lost ${data.count(lost)} in ${plural(own.length, 'run')}`;
	});
	return element('p', { class: 'verdict bad' }, `Accepted mail was lost: ${join(who)}.`);
}

const DIFFERENT = 'These runs come from different machines: their figures do not compare.';

function draw_top() {
	const labels = [...new Set(results.map((r) => r.label))];
	const title = labels.length > 4 ? `${labels.length} mail relays` : join(labels);
	// With hyphens at which no line breaks.
	const days = [...new Set(results.map((r) => r.started.slice(0, 10)))].sort()
		.map((day) => day.replaceAll('-', '\u2011'));
	const where = machines();
	document.title = `${title} – ringpost-bench`;
	document.getElementById('top').append(...[
		element('p', { class: 'kicker' }, 'ringpost-bench'),
		element('h1', {}, title),
		element('p', { class: 'facts' }, [plural(results.length, 'run'),
			sections.length > 1 ? `${sections.length} scenarios` : null,
			days.length > 1 ? `${days[0]} to ${days[days.length - 1]}` : days[0]]
			.filter(Boolean).join(' · ')),
		...where.map((text) => element('p', { class: 'facts machine' }, text)),
		where.length > 1 ? element('p', { class: 'verdict bad' }, DIFFERENT) : null,
		verdict()].filter(Boolean));
}

function summary() {
	const cards = sections.map((section) => ({ section,
		...bar_chart(section.title || 'All runs', conditions(section)) }));
	const note = element('p', { class: 'conditions' });
	const node = element('section', { id: 'summary' },
		element('h2', {}, 'Delivered rate'), note,
		element('div', { class: 'summary' }, cards.map(({ card }) => card)));
	const redraw = () => {
		note.textContent = `as a multiple of ${reference}, which is the thin line at 1×`;
		for (const { section, redraw: redraw_bars } of cards) {
			const rows = shown(section.runs).map((run) => bar_row(run, section));
			const end = Math.max(1, ...rows.map((row) => row.high)) * 1.02;
			redraw_bars(rows, end);
		}
	};
	return { node, redraw };
}

function bar_row(run, section) {
	const s = ratios(run, section);
	const rate = rate_spread(run);
	const per_second = rate === null ? '' : `${data.count(rate.middle)}/s`;
	return { name: run.name, color: style_of(run.name).color, value: s?.middle ?? 0,
		low: s?.low ?? 0, high: s?.high ?? 0,
		text: s === null ? per_second : `${data.ratio(s.middle)} · ${per_second}`,
		title: s === null ? `${reference} has no run here`
			: `${run.name}: ${data.ratio(s.low)} to ${data.ratio(s.high)}` };
}

function draw_bar(redraw) {
	const chips = names.map((name) => element('button', { type: 'button', class: 'chip',
		'aria-pressed': 'true', 'data-run': name, title: 'hide or show',
		onclick: (event) => {
			if (!hidden.delete(name))
				hidden.add(name);
			event.currentTarget.setAttribute('aria-pressed', String(!hidden.has(name)));
			redraw();
		} }, swatch(style_of(name)), name));
	const select = element('select', { id: 'reference', onchange: (event) => {
		reference = event.target.value;
		redraw();
	} }, names.map((name) => element('option', { value: name }, name)));
	document.getElementById('bar').append(element('div', { class: 'chips' }, chips),
		element('label', { class: 'reference' }, 'reference ', select));
}

function main() {
	const parts = sections.map(draw_section);
	if (names.length > 1)
		parts.unshift(summary());
	const redraw = () => parts.forEach((part) => part.redraw());
	draw_top();
	if (names.length > 1)
		draw_bar(redraw);
	else
		document.getElementById('bar').remove();
	document.getElementById('main').append(...parts.map((part) => part.node));
	document.getElementById('foot').append(`Written by ringpost-bench ${GIVEN.version}. ` +
		'The page holds its data and asks nothing of the network.');
	redraw();
}

main();
})();
