package vm

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// metadataURI is the XML namespace of what a domain's metadata says about its
// container.
const metadataURI = "https://vmruntime.org/xmlns/domain/1"

// MetadataAnnotation is an annotation whose value is an XML element that a
// management application puts into the domain's metadata, beside ours
// (https://libvirt.org/formatdomain.html#general-metadata).
const MetadataAnnotation = "org.vmruntime.libvirt.metadata"

// metadataSize is the most that such an element may have in bytes.
const metadataSize = 64 << 10

type metadataContainer struct {
	XMLName     xml.Name             `xml:"vmruntime:container"`
	Namespace   string               `xml:"xmlns:vmruntime,attr"`
	ID          string               `xml:"vmruntime:id"`
	Root        string               `xml:"vmruntime:root"`
	Bundle      string               `xml:"vmruntime:bundle"`
	Image       string               `xml:"vmruntime:image,omitempty"`
	Annotations []metadataAnnotation `xml:"vmruntime:annotation"`
}

type metadataAnnotation struct {
	Name  string `xml:"name,attr"`
	Value string `xml:",chardata"`
}

func metadataXML(m Metadata) (string, error) {
	c := metadataContainer{Namespace: metadataURI, ID: m.ID, Root: m.Root, Bundle: m.Bundle, Image: m.Image}
	for _, name := range slices.Sorted(maps.Keys(m.Annotations)) {
		if name != MetadataAnnotation {
			c.Annotations = append(c.Annotations, metadataAnnotation{name, m.Annotations[name]})
		}
	}
	text, err := xml.Marshal(c)
	if err != nil {
		return "", err
	}
	foreign := m.Annotations[MetadataAnnotation]
	if err := CheckMetadata(foreign); err != nil {
		return "", fmt.Errorf("annotation %s: %w", MetadataAnnotation, err)
	}
	return string(text) + foreign, nil
}

// CheckMetadata refuses what libvirt would not keep, or what is more than one
// element of a namespace of its own. An empty text is none and fine.
func CheckMetadata(text string) error {
	if text == "" {
		return nil
	}
	if len(text) > metadataSize {
		return fmt.Errorf("%d bytes, of which %d are allowed", len(text), metadataSize)
	}
	decoder := xml.NewDecoder(strings.NewReader(text))
	depth, roots := 0, 0
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("must be an XML element: %w", err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			if depth == 0 {
				roots++
				if err := checkMetadataRoot(t); err != nil {
					return err
				}
			}
			depth++
		case xml.EndElement:
			depth--
		case xml.CharData:
			if depth == 0 && strings.TrimSpace(string(t)) != "" {
				return errors.New("text outside of the element")
			}
		case xml.ProcInst, xml.Directive:
			return errors.New("must have no declarations and processing instructions")
		}
	}
	if roots != 1 {
		return fmt.Errorf("must be one XML element, not %d", roots)
	}
	return nil
}

// checkMetadataRoot: libvirt keeps elements apart by their namespaces. Go's decoder
// takes a prefix that is not declared for a namespace.
func checkMetadataRoot(e xml.StartElement) error {
	declared := slices.ContainsFunc(e.Attr, func(a xml.Attr) bool {
		return (a.Name.Space == "xmlns" || a.Name.Local == "xmlns") && a.Value == e.Name.Space
	})
	if !declared || e.Name.Space == "" {
		return fmt.Errorf("the element %s must declare its namespace", e.Name.Local)
	}
	if e.Name.Space == metadataURI {
		return fmt.Errorf("the namespace %s is vmruntime's own", metadataURI)
	}
	return nil
}
