// SPDX-License-Identifier: Apache-2.0
// Sends one mail as nodemailer does: the job is JSON on standard input.
'use strict';
const fs = require('fs');
const nodemailer = require('nodemailer');

const job = JSON.parse(fs.readFileSync(0, 'utf8'));
const transport = nodemailer.createTransport({
	host: job.host, port: job.port, name: 'client.test', secure: job.tls === 'implicit',
	ignoreTLS: !job.tls, requireTLS: job.tls === 'starttls', tls: { rejectUnauthorized: false },
	auth: job.auth ? { user: job.auth.user, pass: job.auth.pass } : undefined,
	authMethod: job.auth ? job.auth.method : undefined,
});
transport.sendMail({
	envelope: { from: job.from, to: job.to, use8BitMime: job.eight },
	raw: fs.readFileSync(job.file),
}).then((info) => {
	if (info.rejected.length > 0)
		throw new Error('refused: ' + info.rejected);
	transport.close();
}).catch((error) => {
	console.error(error.message);
	process.exit(1);
});
