# Reads go test -json and prints the output of tests that fail or are skipped,
# one line for those that take a second or more, and what packages say. Output
# is held until its test ends; a package that fails shows what is held of the
# tests that never did.
foreach (inputs | fromjson? // {Action: "build-output", Output: "\(.)\n"}) as $e
	({held: {}};
	($e.Package // "") as $package | ($e.Test // "") as $test |
	.print = "" |
	if $e.Action == "build-output" then .print = $e.Output
	elif $e.Action == "output" then
		if $test != "" then .held[$package][$test] += $e.Output
		elif $e.Output == "PASS\n" then .
		else .print = $e.Output end
	elif $e.Action == "fail" and $test == "" then
		.print = ([.held[$package] // {} | .[]] | join("")) | del(.held[$package])
	elif $e.Action | IN("fail", "skip", "pass") then
		if $e.Action != "pass" then .print = (.held[$package][$test] // "")
		elif $e.Elapsed >= 1 and $test != "" and ($test | contains("/") | not) then
			.print = "--- PASS: \($test) (\($e.Elapsed)s)\n"
		else . end |
		del(.held[$package][$test])
	else . end;
	.print)
