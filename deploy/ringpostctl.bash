# SPDX-License-Identifier: Apache-2.0
# Completion of ringpostctl for bash. The words come from the program itself (--list), so that they
# are those of its version.
_ringpostctl() {
	local current=${COMP_WORDS[COMP_CWORD]} line typed words=
	typed=$(printf '%s ' "${COMP_WORDS[@]:1:COMP_CWORD-1}")
	while read -r line; do
		local command=${line%% --*}
		if [[ $typed == *"$command "* ]]; then
			[ "$line" = "$command" ] || words="--${line#* --}"
			words+=" --json --socket --timeout --yes --help"
			break
		fi
		# What may follow what was typed so far: the first word, or the second.
		if [[ $typed == *"${command%% *} "* && $command == *' '* ]]; then
			words+=" ${command#* }"
		elif [[ $typed != *[a-z]' '* ]]; then
			words+=" ${command%% *}"
		fi
	done < <(ringpostctl --list 2>/dev/null)
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _ringpostctl ringpostctl
