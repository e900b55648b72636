package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// Both the configuration drive and the metadata service have these files
// (https://docs.openstack.org/nova/latest/user/metadata.html).
const (
	openStackDir = "openstack/latest/"
	metaFile     = openStackDir + "meta_data.json"
	userFile     = openStackDir + "user_data"
	networkFile  = openStackDir + "network_data.json"
	vendorFile   = openStackDir + "vendor_data.json"
	vendorFile2  = openStackDir + "vendor_data2.json"
)

type openStack struct {
	Hostname   string            `json:"hostname"`
	PublicKeys map[string]string `json:"public_keys"`
}

func parseOpenStack(read reader) (*data, error) {
	files, err := collect(read, metaFile, userFile, networkFile, vendorFile, vendorFile2)
	d := &data{seed: "config_drive", files: files}
	if err != nil {
		return d, err
	}
	if len(files[metaFile]) == 0 {
		return d, fmt.Errorf("%s is missing", metaFile)
	}
	var meta openStack
	if err := json.Unmarshal(files[metaFile], &meta); err != nil {
		return d, fmt.Errorf("%s: %w", metaFile, err)
	}
	d.hostname = validHostname(meta.Hostname)
	d.keys = validKeys(slices.Sorted(maps.Values(meta.PublicKeys)))
	if text := files[networkFile]; len(text) > 0 {
		if d.network, err = parseNetworkData(text); err != nil {
			return d, fmt.Errorf("%s: %w", networkFile, err)
		}
	}
	err = d.heed(files[userFile])
	return d, err
}

const serviceURL = "http://169.254.169.254/"

// isOpenStack tells a machine whose firmware says so, as cloud-init does: where
// there is no metadata service, waiting for one would cost every boot a minute.
// A command line can say it too.
func isOpenStack() bool {
	line, _ := os.ReadFile("/proc/cmdline")
	if slices.Contains(strings.Fields(strings.ToLower(string(line))), "ds=openstack") {
		return true
	}
	for _, name := range []string{"product_name", "chassis_asset_tag"} {
		text, _ := os.ReadFile("/sys/class/dmi/id/" + name)
		if slices.Contains([]string{"OpenStack Nova", "OpenStack Compute"}, strings.TrimSpace(string(text))) {
			return true
		}
	}
	return false
}

// fromService asks until there is an answer: the service comes up with its network.
// What is wrong with an answer is an error beside what is right with it.
func fromService(ctx context.Context, url string) (*data, error) {
	for {
		d, err := parseOpenStack(func(name string) ([]byte, error) { return get(ctx, url+name) })
		if err == nil || len(d.files[metaFile]) > 0 {
			return d, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Second):
		}
	}
}

// requestTimeout bounds one request.
const requestTimeout = 10 * time.Second

func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	// No proxy, whatever the environment: it is this machine's neighbour.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		return readLimited(response.Body)
	case http.StatusNotFound:
		return nil, fs.ErrNotExist
	}
	return nil, errors.New(response.Status)
}

func readLimited(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(text) > maxFile {
		return nil, fmt.Errorf("more than %d bytes", maxFile)
	}
	return text, err
}
