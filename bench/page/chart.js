// SPDX-License-Identifier: Apache-2.0
// chart: lines and bars as inline SVG, drawn as wide as there is room, so that text keeps its size.
//
// A line chart is told by { id, title, note, x, y, lines, empty }. x.scale is 'linear' (from 0) or
// 'nines' (logarithmic in 1/(1-p)); y.scale is 'linear', 'binary' (ticks in KiB, MiB) or 'log'.
// x.text and y.text show a value, x.tick and y.tick one at the axis. A line is { name, color, dash,
// points, faint }; a y of null is a gap. Faint lines are drawn, but not read out.
'use strict';

const chart = (() => {
const HEIGHT = 260;
const PAD = { top: 10, right: 14, bottom: 30, left: 58 };
const SVG = 'http://www.w3.org/2000/svg';

// An element with attributes and children; text is never read as HTML.
function element(name, attributes = {}, ...children) {
	const svg = ['svg', 'g', 'path', 'line', 'rect', 'text', 'circle', 'title'].includes(name);
	const node = svg ? document.createElementNS(SVG, name) : document.createElement(name);
	for (const [key, value] of Object.entries(attributes)) {
		if (key.startsWith('on'))
			node.addEventListener(key.slice(2), value);
		else if (value !== null && value !== undefined && value !== false)
			node.setAttribute(key, value === true ? '' : value);
	}
	node.append(...children.flat().filter((child) => child !== null));
	return node;
}

// A short sample of a line, as its legend.
function swatch(style) {
	return element('svg', { class: 'swatch', width: 18, height: 10, 'aria-hidden': 'true' },
		element('line', { x1: 1, x2: 17, y1: 5, y2: 5, stroke: style.color,
			'stroke-dasharray': style.dash }));
}

// --- Scales ---

// 1, 2 or 5 times a power of ten, so that at most `most` steps reach the end.
function nice_step(end, most) {
	const raw = end / most;
	const power = 10 ** Math.floor(Math.log10(raw));
	return power * [1, 2, 5, 10].find((m) => m * power >= raw * 0.999999);
}

function linear_ticks(end, most) {
	const step = nice_step(end, most);
	const ticks = [];
	for (let i = 0; i * step <= end * 1.000001; i++)
		ticks.push(i * step);
	return ticks;
}

function linear_scale(highest, most, unit = 1) {
	const step = nice_step((highest || 1) / unit, most) * unit;
	const end = Math.ceil((highest || 1) / step - 1e-6) * step;
	return { ticks: linear_ticks(end / unit, most).map((t) => t * unit),
		place: (v) => v / end };
}

// From and to a 1, 2 or 5 times a power of ten; these are the ticks where they are few.
function log_scale(lowest, highest) {
	const all = [];
	for (let power = 0; power <= 15; power++)
		all.push(10 ** power, 2 * 10 ** power, 5 * 10 ** power);
	const from = Math.max(all.findLastIndex((t) => t <= lowest), 0);
	const to = Math.max(all.findIndex((t) => t >= highest), from + 1);
	const ticks = all.slice(from, to + 1);
	const few = ticks.length <= 7 ? ticks : ticks.filter((t) => all.indexOf(t) % 3 === 0);
	const low = Math.log10(all[from]);
	return { ticks: few, place: (v) => (Math.log10(Math.max(v, all[from])) - low) /
		(Math.log10(all[to]) - low) };
}

function nines_scale(end) {
	const span = Math.log10(Math.max(end, 10));
	const ticks = [1, 2];
	for (let tick = 10; tick <= end * 1.0001; tick *= 10)
		ticks.push(tick);
	return { ticks, place: (v) => Math.log10(v) / span };
}

function scales_of(spec, width) {
	const points = spec.lines.flatMap((line) => line.points).filter((p) => p[1] !== null);
	const xs = points.map((p) => p[0]);
	const ys = points.map((p) => p[1]);
	const most = (values) => values.reduce((a, b) => Math.max(a, b), 0);
	const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
	const x_end = most(xs) || 1;
	const x = spec.x.scale === 'nines' ? nines_scale(x_end)
		: { ticks: linear_ticks(x_end, Math.max(3, Math.floor(width / 80))),
			place: (v) => v / x_end };
	const unit = 1024 ** Math.floor(Math.log2(Math.max(most(ys), 1)) / 10);
	const y = spec.y.scale === 'log' ? log_scale(least(ys), most(ys))
		: linear_scale(most(ys), 5, spec.y.scale === 'binary' ? unit : 1);
	const inner = { width: width - PAD.left - PAD.right,
		height: HEIGHT - PAD.top - PAD.bottom };
	return { x_ticks: x.ticks, y_ticks: y.ticks,
		x: (v) => PAD.left + x.place(v) * inner.width,
		y: (v) => PAD.top + (1 - y.place(v)) * inner.height };
}

// --- Drawing ---

function path_of(points, scales) {
	let text = '';
	let pen_down = false;
	for (const [x, y] of points) {
		if (y !== null)
			text += `${pen_down ? 'L' : 'M'}${scales.x(x).toFixed(1)} ` +
				scales.y(y).toFixed(1) + (pen_down ? '' : 'h0'); // h0: a lone dot
		pen_down = y !== null;
	}
	return text;
}

function axes(spec, scales, width) {
	const group = element('g', { class: 'axes' });
	for (const tick of scales.y_ticks) {
		const y = scales.y(tick);
		group.append(element('line', { class: 'grid', x1: PAD.left, x2: width - PAD.right,
			y1: y, y2: y }));
		group.append(element('text', { x: PAD.left - 8, y: y + 4, 'text-anchor': 'end' },
			spec.y.tick(tick)));
	}
	group.append(element('line', { class: 'base', x1: PAD.left, x2: width - PAD.right,
		y1: HEIGHT - PAD.bottom, y2: HEIGHT - PAD.bottom }));
	let free_from = -Infinity; // labels that would touch the one before are left out
	for (const tick of scales.x_ticks) {
		const x = scales.x(tick);
		const text = spec.x.tick(tick);
		const half = text.length * 3.6;
		if (spec.x.scale === 'nines')
			group.append(element('line', { class: 'grid', x1: x, x2: x, y1: PAD.top,
				y2: HEIGHT - PAD.bottom }));
		const middle = Math.min(x, width - half);
		if (middle - half < free_from)
			continue;
		free_from = middle + half + 6;
		group.append(element('text', { x: middle, y: HEIGHT - PAD.bottom + 18,
			'text-anchor': 'middle' }, text));
	}
	return group;
}

function draw(spec, width) {
	const scales = scales_of(spec, width);
	const names = spec.lines.filter((line) => !line.faint).map((line) => line.name).join(', ');
	const svg = element('svg', { class: 'plot', width, height: HEIGHT, role: 'img',
		viewBox: `0 0 ${width} ${HEIGHT}`, 'aria-label': `${spec.title}: ${names}` });
	svg.append(axes(spec, scales, width));
	// Faint ones first, so that they lie below.
	const drawn = spec.lines.filter((line) => line.points.length);
	for (const line of drawn.sort((a, b) => b.faint - a.faint)) {
		const path = element('path', { class: line.faint ? 'line faint' : 'line',
			d: path_of(line.points, scales), stroke: line.color,
			'stroke-dasharray': line.dash, 'data-run': line.name });
		svg.append(path);
	}
	return { svg, scales };
}

// --- Reading a chart: a cross-hair with the values at it ---

// The point of a line nearest to x; for a distribution the first that x does not exceed.
function point_at(line, x, nines) {
	const points = line.points;
	let low = 0;
	let high = points.length - 1;
	while (low < high) {
		const middle = (low + high) >> 1;
		if (points[middle][0] < x)
			low = middle + 1;
		else
			high = middle;
	}
	if (!nines && low > 0 && x - points[low - 1][0] < points[low][0] - x)
		low--;
	const beyond = points.length === 0 || x > points[points.length - 1][0] * 1.02;
	return beyond || points[low][1] === null ? null : points[low];
}

// All places where a line can be read, in order: the arrow keys go along these.
function stops_of(spec) {
	const xs = spec.lines.filter((line) => !line.faint)
		.flatMap((line) => line.points.map((p) => p[0]));
	return [...new Set(xs)].sort((a, b) => a - b);
}

function tooltip(spec, x, found) {
	const rows = [...found].sort((a, b) => b.point[1] - a.point[1]).map(({ line, point }) =>
		element('tr', {}, element('th', { scope: 'row' }, swatch(line), line.name),
			element('td', {}, spec.y.text(point[1]))));
	return element('div', { class: 'tip', role: 'status' },
		element('div', { class: 'tip-x' }, spec.x.text(x)), element('table', {}, rows));
}

function put_marks(state, x) {
	const { spec, scales } = state;
	const found = spec.lines.filter((line) => !line.faint).map((line) =>
		({ line, point: point_at(line, x, spec.x.scale === 'nines') }))
		.filter(({ point }) => point !== null);
	const at = scales.x(x);
	const marks = element('g', { class: 'marks' }, element('line', { x1: at, x2: at,
		y1: PAD.top, y2: HEIGHT - PAD.bottom }), found.map(({ line, point }) =>
		element('circle', { cx: at, cy: scales.y(point[1]), r: 3.5, fill: line.color })));
	state.svg.append(marks);
	return { marks, found, at };
}

function clear(state) {
	state.host.querySelectorAll('.marks, .tip').forEach((node) => node.remove());
	state.x = null;
}

function show(state, x) {
	clear(state);
	const { found, at } = put_marks(state, x);
	if (found.length === 0)
		return;
	state.x = x;
	const tip = tooltip(state.spec, x, found);
	state.host.append(tip);
	// Where there is no room beside the cross-hair it goes below the plot.
	if (tip.offsetWidth > state.width / 2 - 14)
		tip.style.top = `${HEIGHT - 4}px`;
	const right = at + 14 + tip.offsetWidth <= state.width;
	const left = right ? at + 14 : at - 14 - tip.offsetWidth;
	tip.style.left = `${Math.max(0, Math.min(left, state.width - tip.offsetWidth))}px`;
}

// The stop nearest to a place on the screen, by what the eye sees: on the drawn scale.
function nearest_stop(state, pixel) {
	return state.stops.reduce((best, stop) =>
		(Math.abs(state.scales.x(stop) - pixel) < Math.abs(state.scales.x(best) - pixel)
			? stop : best), state.stops[0]);
}

function on_key(state, event) {
	const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
	if (event.key === 'Escape')
		clear(state);
	if (!step || state.stops.length === 0)
		return;
	event.preventDefault();
	const here = state.stops.indexOf(state.x);
	const next = here < 0 ? 0 : here + step * Math.ceil(state.stops.length / 60);
	show(state, state.stops[Math.max(0, Math.min(next, state.stops.length - 1))]);
}

// A card with a chart in it. `redraw(spec)` draws it anew; it also follows its width.
function line_chart(spec) {
	const host = element('div', { class: 'plot-host', tabindex: 0 });
	const state = { host, spec, width: 0, svg: null, scales: null, stops: [], x: null };
	const card = element('figure', { class: 'card chart', 'data-chart': spec.id },
		element('figcaption', {}, element('strong', {}, spec.title),
			element('span', { class: 'note' }, spec.note)), host);
	const paint = () => {
		const visible = state.spec.lines.some((line) => line.points.length);
		clear(state);
		host.replaceChildren();
		state.stops = [];
		if (!visible) {
			host.append(element('p', { class: 'empty' }, state.spec.empty));
			return;
		}
		Object.assign(state, draw(state.spec, state.width));
		state.stops = stops_of(state.spec);
		host.append(state.svg);
	};
	host.addEventListener('pointermove', (event) => {
		if (state.stops.length)
			show(state, nearest_stop(state, event.clientX -
				host.getBoundingClientRect().left));
	});
	host.addEventListener('pointerdown', (event) => event.pointerType === 'touch' &&
		state.stops.length && show(state, nearest_stop(state, event.clientX -
			host.getBoundingClientRect().left)));
	host.addEventListener('pointerleave', () => clear(state));
	host.addEventListener('blur', () => clear(state));
	host.addEventListener('keydown', (event) => on_key(state, event));
	new ResizeObserver(() => {
		const width = Math.floor(host.clientWidth);
		if (width === state.width || width === 0)
			return;
		state.width = width;
		paint();
	}).observe(host);
	const redraw = (new_spec) => {
		state.spec = new_spec;
		if (state.width)
			paint();
	};
	return { card, redraw };
}

// --- Bars ---

// One bar a row: { name, color, value, low, high, text }; a line at 1. `end` is the axis's end.
function draw_bars(rows, end, width) {
	const row_height = 40;
	const height = rows.length * row_height + 4;
	const place = (value) => (value / end) * (width - 2) + 1;
	const svg = element('svg', { class: 'bars', width, height, role: 'img',
		viewBox: `0 0 ${width} ${height}`,
		'aria-label': rows.map((row) => `${row.name} ${row.text}`).join(', ') });
	rows.forEach((row, i) => {
		const top = i * row_height;
		const title = element('title', {}, row.title);
		const bar = element('rect', { x: 1, y: top + 20, height: 12, rx: 2, fill: row.color,
			width: Math.max(place(row.value) - 1, 1), 'data-run': row.name,
			'data-value': row.value });
		const group = element('g', {}, title,
			element('text', { x: 1, y: top + 14, class: 'bar-name' }, row.name),
			element('text', { x: width - 1, y: top + 14, 'text-anchor': 'end',
				class: 'bar-text' }, row.text), bar);
		if (row.high > row.low)
			group.append(element('path', { class: 'range', d: [
				`M${place(row.low)} ${top + 22}v8m0 -4H${place(row.high)}`,
				`M${place(row.high)} ${top + 22}v8`].join('') }));
		group.append(element('line', { class: 'one', x1: place(1), x2: place(1),
			y1: top + 18, y2: top + 34 }));
		svg.append(group);
	});
	return svg;
}

function bar_chart(title, note) {
	const host = element('div', { class: 'bars-host' });
	const card = element('figure', { class: 'card bar-card' }, element('figcaption', {},
		element('strong', {}, title), element('span', { class: 'note' }, note)), host);
	let width = 0;
	let shown = { rows: [], end: 1 };
	const paint = () => host.replaceChildren(draw_bars(shown.rows, shown.end, width));
	new ResizeObserver(() => {
		const now = Math.floor(host.clientWidth);
		if (now === width || now === 0)
			return;
		width = now;
		paint();
	}).observe(host);
	const redraw = (rows, end) => {
		shown = { rows, end };
		if (width)
			paint();
	};
	return { card, redraw };
}

return { element, swatch, line_chart, bar_chart };
})();
