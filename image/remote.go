package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"
)

// A Pulled image is one, and how many bytes of it came over the network.
type Pulled struct {
	Image
	Transferred int64
}

// Pull reads an archive over HTTP: its headers, manifest and configuration, and
// the layers that the store lacks. From a server that gives no parts of a file it
// takes the whole. header goes with every request to the server of the URL, and to
// no other that it may redirect to.
func (s *Store) Pull(ctx context.Context, name, url string, header http.Header) (Pulled, error) {
	unlock, err := s.begin(ctx, name)
	if err != nil {
		return Pulled{}, err
	}
	defer unlock()
	r := &remote{ctx: ctx, url: url, header: header, client: newClient()}
	defer r.client.CloseIdleConnections()
	i, err := s.pull(ctx, r, name)
	if err != nil {
		return Pulled{}, fmt.Errorf("image %s from %s: %w", name, withoutQuery(url), err)
	}
	return Pulled{i, r.transferred}, nil
}

// withoutQuery keeps what may be a secret out of errors.
func withoutQuery(url string) string {
	url, _, _ = strings.Cut(url, "?")
	return url
}

func (s *Store) pull(ctx context.Context, r *remote, name string) (Image, error) {
	whole, err := r.begin()
	if err != nil {
		return Image{}, err
	}
	if whole != nil {
		defer whole.Close()
		return s.pullWhole(ctx, name, whole)
	}
	if i, ok := s.known(name, r.mark()); ok {
		return i, nil
	}
	i, err := s.add(ctx, r)
	if err != nil {
		return Image{}, err
	}
	return i, s.name(name, i, r.mark())
}

// known is the image of that name if it came from this very archive.
func (s *Store) known(name, mark string) (Image, bool) {
	var n Name
	if mark == "" || readRecord(s.nameFile(name), &n) != nil || n.Source != mark {
		return Image{}, false
	}
	i, err := s.image(n.ID)
	return i, err == nil && s.complete(i)
}

// complete tells whether all layers are there.
func (s *Store) complete(i Image) bool {
	for _, tree := range s.trees(i.chain()) {
		if _, err := os.Stat(tree); err != nil {
			return false
		}
	}
	return true
}

func (s *Store) pullWhole(ctx context.Context, name string, body io.Reader) (Image, error) {
	dir, remove, err := s.temporary()
	if err != nil {
		return Image{}, err
	}
	defer func() { _ = remove() }()
	f, err := os.Create(dir + "/archive.tar")
	if err != nil {
		return Image{}, err
	}
	defer f.Close()
	size, err := io.Copy(f, &bounded{body, s.limits.Size + slack})
	if err != nil {
		return Image{}, err
	}
	i, err := s.add(ctx, fileSource{f, size})
	if err != nil {
		return Image{}, err
	}
	return i, s.name(name, i, "")
}

// A remote is an archive on a server that gives parts of it.
type remote struct {
	ctx    context.Context
	url    string
	header http.Header
	client *http.Client
	size   int64
	// tag is the server's mark of this version of the archive, if it has one.
	tag         string
	transferred int64
	// window is what was read last, at its place.
	window []byte
	at     int64
}

const (
	// One window holds a header and most of what is small; windows that follow each
	// other grow.
	minWindow = 1 << 10
	maxFetch  = 256 << 10
	// stall is how long a server may say nothing.
	stall = time.Minute
)

func newClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = stall
	transport.DisableCompression = true
	return &http.Client{Transport: transport}
}

// begin asks for the first bytes. A server that gives no parts answers with the
// whole, or is asked for it.
func (r *remote) begin() (whole io.ReadCloser, err error) {
	response, err := r.get("bytes=0-" + strconv.Itoa(minWindow-1))
	if err != nil {
		return nil, err
	}
	switch response.StatusCode {
	case http.StatusPartialContent:
		return nil, r.first(response)
	case http.StatusOK:
		return r.body(response), nil
	case http.StatusBadRequest, http.StatusRequestedRangeNotSatisfiable, http.StatusNotImplemented, http.StatusMethodNotAllowed:
		response.Body.Close()
		if response, err = r.get(""); err != nil {
			return nil, err
		}
		if response.StatusCode == http.StatusOK {
			return r.body(response), nil
		}
	}
	response.Body.Close()
	return nil, fmt.Errorf("the server says %s", response.Status)
}

func (r *remote) first(response *http.Response) error {
	body := r.body(response)
	defer body.Close()
	var err error
	if _, r.size, err = contentRange(response); err != nil {
		return err
	}
	r.tag = response.Header.Get("ETag")
	if r.tag == "" {
		r.tag = response.Header.Get("Content-MD5")
	}
	if r.window, err = io.ReadAll(io.LimitReader(body, minWindow)); err != nil {
		return fmt.Errorf("the server's answer ends early: %w", err)
	}
	return nil
}

// contentRange reads "bytes 0-1023/4096".
func contentRange(response *http.Response) (first, size int64, err error) {
	var last int64
	text := response.Header.Get("Content-Range")
	if n, err := fmt.Sscanf(text, "bytes %d-%d/%d", &first, &last, &size); err != nil || n != 3 || first < 0 || size <= last || last < first {
		return 0, 0, fmt.Errorf("the server's Content-Range is %.80q", text)
	}
	return first, size, nil
}

// mark names this version of the archive, and is empty if the server does not
// tell.
func (r *remote) mark() string {
	if r.tag == "" || strings.HasPrefix(r.tag, "W/") {
		return ""
	}
	return fmt.Sprintf("%s %d %s", withoutQuery(r.url), r.size, r.tag)
}

func (r *remote) get(bytes string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(r.ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, err
	}
	for name, values := range r.header {
		request.Header[name] = values
	}
	if bytes != "" {
		request.Header.Set("Range", bytes)
	}
	client := *r.client
	client.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		if len(via) > 5 {
			return errors.New("the server redirects again and again")
		}
		if next.URL.Scheme != request.URL.Scheme || next.URL.Host != request.URL.Host {
			for name := range r.header {
				next.Header.Del(name)
			}
		}
		return nil
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, cause(err)
	}
	return response, nil
}

// cause leaves the URL out of an error, which may hold a secret.
func cause(err error) error {
	var outer interface{ Unwrap() error }
	if errors.As(err, &outer) && outer.Unwrap() != nil {
		return outer.Unwrap()
	}
	return err
}

func (r *remote) body(response *http.Response) io.ReadCloser {
	return &counted{body: response.Body, n: &r.transferred}
}

// Size is the archive's.
func (r *remote) Size() int64 { return r.size }

// ReadAt serves headers and small files. Reads one after another fetch more and
// more at a time, after a jump little again.
func (r *remote) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at >= r.size {
			return done, io.EOF
		}
		if at < r.at || at >= r.at+int64(len(r.window)) {
			if err := r.fetch(at, int64(len(p)-done)); err != nil {
				return done, err
			}
		}
		done += copy(p[done:], r.window[at-r.at:])
	}
	return done, nil
}

func (r *remote) fetch(at, want int64) error {
	n := int64(minWindow)
	if at == r.at+int64(len(r.window)) {
		n = min(2*int64(len(r.window)), maxFetch)
	}
	n = min(max(n, want), maxFetch, r.size-at)
	body, err := r.Stream(r.ctx, at, n)
	if err != nil {
		return err
	}
	defer body.Close()
	window := make([]byte, n)
	if _, err := io.ReadFull(body, window); err != nil {
		return fmt.Errorf("the server's answer ends early: %w", err)
	}
	r.window, r.at = window, at
	return nil
}

// Stream asks for one part.
func (r *remote) Stream(_ context.Context, off, n int64) (io.ReadCloser, error) {
	if n == 0 {
		return io.NopCloser(strings.NewReader("")), nil
	}
	response, err := r.get(fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	if err != nil {
		return nil, err
	}
	body := r.body(response)
	if response.StatusCode != http.StatusPartialContent {
		body.Close()
		return nil, fmt.Errorf("the server says %s where it gave parts before", response.Status)
	}
	first, size, err := contentRange(response)
	if err == nil && (first != off || size != r.size) {
		err = errors.New("the archive on the server has changed meanwhile: try again")
	}
	if err != nil {
		body.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(body, n), body}, nil
}

// A counted body counts what is read, and ends when nothing comes for too long.
type counted struct {
	body io.ReadCloser
	n    *int64
}

func (c *counted) Read(p []byte) (int, error) {
	timer := time.AfterFunc(stall, func() { c.body.Close() })
	n, err := c.body.Read(p)
	if !timer.Stop() && err != nil {
		err = fmt.Errorf("the server has said nothing for %s", stall)
	}
	*c.n += int64(n)
	return n, err
}

func (c *counted) Close() error { return c.body.Close() }

// ReadHeader reads lines like "X-Auth-Token: secret".
func ReadHeader(file string) (http.Header, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// An empty line ends a header.
	lines := io.MultiReader(io.LimitReader(f, maxJSON), strings.NewReader("\r\n\r\n"))
	h, err := textproto.NewReader(bufio.NewReader(lines)).ReadMIMEHeader()
	if err != nil {
		// The error quotes the line, which may be the secret.
		return nil, fmt.Errorf("%s: each line must be NAME: VALUE", file)
	}
	return http.Header(h), nil
}
