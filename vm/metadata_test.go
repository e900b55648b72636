package vm

import (
	"strings"
	"testing"
)

func TestCheckMetadata(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"none":           {"", ""},
		"prefixed":       {`<n:i xmlns:n="urn:n"><n:name>a &amp; b</n:name></n:i>`, ""},
		"default":        {"\n<i xmlns=\"urn:n\"/>\n", ""},
		"comment":        {`<i xmlns="urn:n"><!-- c --></i>`, ""},
		"text":           {"hello", "text outside"},
		"two":            {`<i xmlns="urn:n"/><j xmlns="urn:m"/>`, "one XML element, not 2"},
		"comment alone":  {"<!-- c -->", "one XML element, not 0"},
		"open":           {`<i xmlns="urn:n">`, "must be an XML element"},
		"no namespace":   {"<i/>", "must declare its namespace"},
		"undeclared":     {"<n:i/>", "must declare its namespace"},
		"ours":           {`<i xmlns="` + metadataURI + `"/>`, "vmruntime's own"},
		"ends metadata":  {`<i xmlns="urn:n"/></metadata><os/>`, "must be an XML element"},
		"entity":         {`<!DOCTYPE i [<!ENTITY e "x">]><i xmlns="urn:n"/>`, "no declarations"},
		"unknown entity": {`<i xmlns="urn:n">&e;</i>`, "must be an XML element"},
		"declaration":    {`<?xml version="1.0"?><i xmlns="urn:n"/>`, "no declarations"},
		"control":        {"<i xmlns=\"urn:n\">\x01</i>", "must be an XML element"},
		"long":           {`<i xmlns="urn:n">` + strings.Repeat("x", metadataSize) + `</i>`, "are allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckMetadata(c.text)
			if c.want == "" && err != nil {
				t.Fatal(err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
