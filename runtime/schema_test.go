package runtime

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The fixtures in testdata/schema are members of a sound config.json, one way to
// use the JSON schema of the specification each: hack/suites.sh schema runs its own.
//
// A good one is accepted, or refused for a field that fields.go names; a bad one is
// refused for the field that is wrong.
func TestSchema(t *testing.T) {
	for _, kind := range []string{"good", "bad"} {
		text, err := os.ReadFile("testdata/schema/" + kind + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var fixtures map[string]json.RawMessage
		if err := json.Unmarshal(text, &fixtures); err != nil {
			t.Fatal(err)
		}
		for name, members := range fixtures {
			t.Run(kind+"/"+name, func(t *testing.T) { checkFixture(t, kind, name, members) })
		}
	}
}

// namesField is an error that begins with the field that it is about.
var namesField = regexp.MustCompile(`^config\.json(?: line \d+, column \d+)?: ((?:[a-zA-Z0-9_]+(?:\[\d+\])?\.?)+)`)

// checkFixture takes the name of a fixture for the name of its field.
func checkFixture(t *testing.T, kind, name string, members json.RawMessage) {
	_, err := planOf(testBundle(t, merged(t, members)))
	if err == nil {
		if kind == "bad" {
			t.Error("it is accepted")
		}
		return
	}
	field := namesField.FindStringSubmatch(err.Error())
	switch {
	case field == nil:
		t.Errorf("it is refused without a field: %v", err)
	case kind == "good" && !isRefused(field[1]) && !strings.Contains(err.Error(), "cannot cross into a VM"):
		t.Errorf("it is refused for %s, which is supported: %v", field[1], err)
	case kind == "bad" && !strings.HasPrefix(plainField(field[1]), strings.Fields(name)[0]):
		t.Errorf("it is refused for %s: %v", field[1], err)
	}
}

// merged is a sound config.json with these members, one level deep.
func merged(t *testing.T, members json.RawMessage) string {
	t.Helper()
	var config, changes map[string]any
	for text, v := range map[string]*map[string]any{validConfig: &config, string(members): &changes} {
		if err := json.Unmarshal([]byte(text), v); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range changes {
		old, isObject := config[name].(map[string]any)
		more, both := change.(map[string]any)
		if !isObject || !both {
			config[name] = change
			continue
		}
		for key, value := range more {
			old[key] = value
		}
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var index = regexp.MustCompile(`\[\d+\]`)

// plainField is a field without the numbers of list elements.
func plainField(name string) string { return index.ReplaceAllString(name, "") }

// isRefused tells whether the table refuses the field, or one above or below it.
func isRefused(name string) bool {
	name = plainField(name)
	for _, f := range fields {
		plain := strings.ReplaceAll(f.name, "[]", "")
		if f.support == refused && (strings.HasPrefix(name, plain) || strings.HasPrefix(plain, name)) {
			return true
		}
	}
	return false
}
