package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestShareOptions(t *testing.T) {
	const mountinfo = "21 30 0:20 / /proc rw - proc proc rw\n" +
		"30 1 0:19 /x/rootfs / ro,relatime - 9p vmruntime rw,access=client,trans=virtio,msize=512000\n"
	if got, err := shareOptions(mountinfo); err != nil || got != "access=client,trans=virtio,msize=512000" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := shareOptions("21 30 0:20 / /proc rw - proc proc rw\n"); err == nil {
		t.Error("a share was found where there is none")
	}
}

// Each figure gets the value of its own job, whose section files.fio has.
func TestParseFio(t *testing.T) {
	var jobs []map[string]any
	for i, place := range places {
		for n, job := range fileJobs {
			if !strings.Contains(string(jobFile), "[$PLACE-"+job.section+"]") {
				t.Errorf("files.fio has no section %s", job.section)
			}
			direction := "read"
			if strings.HasSuffix(job.section, "write") {
				direction = "write"
			}
			value := float64(100*i + n + 1)
			jobs = append(jobs, map[string]any{
				"jobname": place.name + "-" + job.section, "error": 0, "read": map[string]any{"total_ios": 0}, "write": map[string]any{"total_ios": 0},
			})
			jobs[len(jobs)-1][direction] = map[string]any{"total_ios": 9, "bw_bytes": value * (1 << 20), "iops": value}
			if job.unit == "MiB/s" {
				jobs[len(jobs)-1][direction].(map[string]any)["iops"] = 0
			}
		}
	}
	encode := func() []byte {
		text, err := json.Marshal(map[string]any{"jobs": jobs})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	values, err := parseFio(encode(), places)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(values), "[1 2 3 4 5 6 7 101 102 103 104 105 106 107]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	jobs[3]["error"] = 5
	if _, err := parseFio(encode(), places); err == nil {
		t.Error("a job that failed counts")
	}
	jobs = jobs[:3]
	if _, err := parseFio(encode(), places); err == nil {
		t.Error("a job that is missing counts")
	}
}
