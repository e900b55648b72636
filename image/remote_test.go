package image

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A server gives an archive, in parts unless it is told not to, and counts.
type server struct {
	mu   sync.Mutex
	text []byte
	// refuse is the status for requests of parts, 200 to send the whole.
	refuse int
	etag   string
	tokens []string
	sent   int64
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = append(s.tokens, r.Header.Get("X-Auth-Token"))
	if s.etag != "" {
		w.Header().Set("ETag", s.etag)
	}
	counter := &countingWriter{ResponseWriter: w, n: &s.sent}
	if r.Header.Get("Range") != "" && s.refuse != 0 {
		if s.refuse != http.StatusOK {
			http.Error(counter, "no parts", s.refuse)
			return
		}
		r.Header.Del("Range")
	}
	http.ServeContent(counter, r, "", time.Time{}, bytes.NewReader(s.text))
}

// with waits until the request at hand is served.
func (s *server) with(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

type countingWriter struct {
	http.ResponseWriter
	n *int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	*w.n += int64(n)
	return n, err
}

func serve(t testing.TB, s *server) string {
	t.Helper()
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return h.URL + "/file?secret=1"
}

// noise does not compress, and is the same every time.
func noise(seed uint64, size int) string {
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// The figures that make images cheap: a known image and a known base cost nothing
// but headers.
func TestPullTransfersWhatIsMissing(t *testing.T) {
	const known, small, large = 64 << 10, 300_000, 2_000_000
	for name, etag := range map[string]string{"the server tells versions apart": `"v1"`, "it does not": ""} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, DefaultLimits)
			base := tarOf(t, dir("bin"), file("bin/x", noise(1, large)))
			app, other := tarOf(t, file("app", noise(2, small))), tarOf(t, file("app", noise(3, small)))
			web := &server{text: saved(t, base, app), etag: etag}
			url := serve(t, web)
			pull := func(name string, least, most int64) {
				t.Helper()
				web.with(func() { web.sent = 0 })
				p, err := s.Pull(t.Context(), name, url, http.Header{"X-Auth-Token": {"secret"}})
				if err != nil {
					t.Fatal(err)
				}
				web.with(func() {
					t.Logf("%s: %d of %d bytes", name, p.Transferred, len(web.text))
					if p.Transferred < least || p.Transferred > most || p.Transferred > web.sent {
						t.Errorf("%s: %d bytes of %d sent, not %d to %d", name, p.Transferred, web.sent, least, most)
					}
				})
			}
			pull("a:1", large+small, large+small+known)
			pull("a:1", 1, known)
			pull("b:1", 1, known)
			web.with(func() { web.text, web.etag = saved(t, base, other), strings.Replace(etag, "1", "2", 1) })
			pull("a:1", small, small+known)
			web.with(func() {
				for _, token := range web.tokens {
					if token != "secret" {
						t.Errorf("a request had the token %q", token)
					}
				}
			})
		})
	}
}

// A long list of layers is not walked expensively.
func TestPullManyLayers(t *testing.T) {
	s := newStore(t, DefaultLimits)
	var layers [][]byte
	for n := range 40 {
		layers = append(layers, tarOf(t, file(fmt.Sprint(n), noise(uint64(n), 10_000))))
	}
	url := serve(t, &server{text: saved(t, layers...)})
	for _, name := range []string{"first", "second"} {
		p, err := s.Pull(t.Context(), name, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if name == "second" && p.Transferred > 64<<10 {
			t.Errorf("%d bytes of an image that is there", p.Transferred)
		}
	}
}

func TestPullWithoutRanges(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusBadRequest, http.StatusRequestedRangeNotSatisfiable} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s := newStore(t, DefaultLimits)
			web := &server{text: saved(t, tarOf(t, file("a", noise(1, 100_000)))), refuse: status}
			p, err := s.Pull(t.Context(), "a", serve(t, web), nil)
			if err != nil {
				t.Fatal(err)
			}
			if p.Transferred != int64(len(web.text)) {
				t.Errorf("%d bytes, not %d", p.Transferred, len(web.text))
			}
			if n := count(t, s, tmpDir); n != 0 {
				t.Errorf("%d files are left over", n)
			}
		})
	}
}

func TestPullFailures(t *testing.T) {
	s := newStore(t, DefaultLimits)
	layer := tarOf(t, file("a", noise(1, 100_000)))
	good := saved(t, layer)
	damaged := bytes.Replace(good, []byte(noise(1, 64)), []byte(noise(2, 64)), 1)
	for want, h := range map[string]http.Handler{
		"the server says 404 Not Found":         http.NotFoundHandler(),
		"the server says 403 Forbidden":         http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }),
		"what it holds has another digest":      &server{text: damaged},
		"not a sound tar":                       &server{text: good[:len(good)/2]},
		"manifest.json nor index.json":          &server{text: good[:1024]},
		"the server's Content-Range is":         http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPartialContent) }),
		"the archive on the server has changed": changing(good),
		"it is larger than an image may be":     endless(),
	} {
		t.Run(want, func(t *testing.T) {
			h := httptest.NewServer(h)
			defer h.Close()
			limited := *s
			if want == "it is larger than an image may be" {
				limited.limits.Size = -slack + 1<<20
			}
			_, err := limited.Pull(t.Context(), "a", h.URL+"/x?secret=1", nil)
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v\ndoes not say %s", err, want)
			}
			for _, d := range []string{layersDir, imagesDir, namesDir, tmpDir} {
				if n := count(t, s, d); n != 0 {
					t.Errorf("%d entries are left in %s", n, d)
				}
			}
		})
	}
}

// changing is an archive that grows from request to request.
func changing(text []byte) http.Handler {
	var requests atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := requests.Add(1)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(append(bytes.Clone(text), make([]byte, 512*n)...)))
	})
}

// endless has no parts and no end.
func endless() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, zeros{}) })
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A token is for the server that was named, and for no other.
func TestTokenStays(t *testing.T) {
	s := newStore(t, DefaultLimits)
	web := &server{text: saved(t, tarOf(t, file("a", "x")))}
	url := serve(t, web)
	redirect := httptest.NewServer(http.RedirectHandler(url, http.StatusFound))
	defer redirect.Close()
	if _, err := s.Pull(t.Context(), "a", redirect.URL, http.Header{"X-Auth-Token": {"secret"}}); err != nil {
		t.Fatal(err)
	}
	web.with(func() {
		if len(web.tokens) == 0 || strings.Join(web.tokens, "") != "" {
			t.Errorf("the tokens that went to another server: %q", web.tokens)
		}
	})
}

func TestReadHeader(t *testing.T) {
	name := filepath.Join(t.TempDir(), "header")
	for text, want := range map[string]string{"X-Auth-Token: a\n": "a", "Other: b\r\nx-auth-token: c": "c", "": ""} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := ReadHeader(name)
		if err != nil || h.Get("X-Auth-Token") != want {
			t.Errorf("%q: %v, %v", text, h, err)
		}
	}
	if err := os.WriteFile(name, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadHeader(name); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a line without a colon: %v", err)
	}
}
