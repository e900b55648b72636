package engine

import (
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

// TOML is edited as text, because a TOML library would write the file without its
// comments. What is ours is a block between two lines, at the file's end.
const (
	blockBegin = "# vmruntime install: begin. `vmruntime install ENGINE --remove` takes this block out."
	blockEnd   = "# vmruntime install: end"
	// blockMark finds the first line, whatever it says further on.
	blockMark = "# vmruntime install: begin"
)

// cutBlock returns the text without the block.
func cutBlock(text string) (string, error) {
	before, rest, found := cutLine(text, blockMark)
	if !found {
		return text, nil
	}
	_, after, found := cutLine(rest, blockEnd)
	if !found || strings.Contains(after, blockMark) {
		return "", fmt.Errorf("its block %q has no end, or there are two: remove it by hand", blockMark)
	}
	if before = strings.TrimRight(before, "\n"); before != "" {
		before += "\n"
	}
	return before + after, nil
}

// cutLine cuts the text around the first line that begins with prefix.
func cutLine(text, prefix string) (before, after string, found bool) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			return before, text[len(before)+len(line):], true
		}
		before += line
	}
	return text, "", false
}

// appendBlock returns the text with the block at its end.
func appendBlock(text, block string) (string, error) {
	if text != "" {
		text = strings.TrimRight(text, "\n") + "\n\n"
	}
	text += blockBegin + "\n" + block + blockEnd + "\n"
	var config map[string]any
	if _, err := toml.Decode(text, &config); err != nil {
		return "", fmt.Errorf("these lines cannot be added at its end (%w); write them where they belong:\n%s", err, block)
	}
	return text, nil
}

// foreignTOML is what others have written into the file: its text without the block,
// and its tables.
func foreignTOML(text string) (rest string, config table, err error) {
	if rest, err = cutBlock(text); err != nil {
		return "", nil, err
	}
	config, err = decodeTOML(rest)
	return rest, config, err
}

// decodeTOML returns the file's tables.
func decodeTOML(text string) (table, error) {
	var config table
	if _, err := toml.Decode(text, &config); err != nil {
		return nil, fmt.Errorf("not valid TOML: %w: mend it first", err)
	}
	return config, nil
}

// A table is one of TOML, decoded.
type table map[string]any

// at is the table that the keys lead to, nil if there is none.
func (t table) at(keys ...string) table {
	for _, key := range keys {
		next, _ := t[key].(map[string]any)
		t = next
	}
	return t
}

// foreign says that the runtime's name is taken.
func foreign(entry any) error {
	return fmt.Errorf("runtime %q is somebody else's: %v: remove or rename it first", Name, entry)
}
