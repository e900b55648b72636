package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

//go:embed page.md
var pageText string

// A pageRow is a row as the page shows it.
type pageRow struct {
	Title, About, Picture, Tables string
	// Measured says when and where.
	Measured string
}

// publish draws the pictures and writes the page from the reports in dir: of each
// row the newest one counts.
func publish(dir string) error {
	reports, err := readReports(dir)
	if err != nil {
		return err
	}
	var page []pageRow
	for _, kind := range kinds {
		report, row, found := newest(reports, kind.name)
		if !found {
			continue
		}
		picture := kind.name + ".svg"
		if err := draw(row, kind.picture, filepath.Join(dir, picture)); err != nil {
			return err
		}
		tables, err := tablesOf(row)
		if err != nil {
			return err
		}
		page = append(page, pageRow{kind.title, kind.about, picture, tables, measured(report)})
	}
	out, err := os.Create(filepath.Join(dir, "README.md"))
	if err != nil {
		return err
	}
	text := template.Must(template.New("page").Parse(pageText))
	return errors.Join(text.Execute(out, page), out.Close())
}

func newest(reports []Report, name string) (Report, Row, bool) {
	for _, r := range reports {
		if i := slices.IndexFunc(r.Rows, func(row Row) bool { return row.Name == name }); i >= 0 {
			return r, r.Rows[i], true
		}
	}
	return Report{}, Row{}, false
}

// manyFigures go into one table, a line each; fewer have one of their own.
const manyFigures = 5

func tablesOf(r Row) (string, error) {
	var out strings.Builder
	if len(r.Figures) >= manyFigures {
		err := writeSummary(&out, r.Figures)
		return out.String(), err
	}
	for i, f := range r.Figures {
		if i > 0 {
			out.WriteString("\n")
		}
		if err := writeTable(&out, f); err != nil {
			return "", fmt.Errorf("row %s: %w", r.Name, err)
		}
	}
	return out.String(), nil
}

func measured(r Report) string {
	m := r.Machine
	return fmt.Sprintf("%s, commit %.12s, %d rounds; %d × %s, %d GiB, %s, Linux %s; guest %s; QEMU %s, libvirt %s, runc %s, crun %s; load before: %s",
		r.Date.Format("2006-01-02 15:04 MST"), r.Commit, r.Rounds, m.CPUs, m.CPU, (m.MemoryMiB+512)/1024, m.Accelerator, m.Kernel,
		m.GuestKernel, m.QEMU, m.Libvirt, m.Runc, m.Crun, m.Load)
}
