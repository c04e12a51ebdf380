package codec

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nexuscore-labs/nexus/frame"
)

var parseCases = []struct {
	codec  string
	wire   string
	status uint8
	body   string
	push   bool
}{
	{"http1", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 0, "ok", false},
	{"http1", "HTTP/1.1 204 No Content\r\n\r\n", 0, "", false},
	{"http1", "HTTP/1.0 404 \r\ncontent-length:0\r\n\r\n", 4, "", false},
	{"http1", "HTTP/1.1 503\r\nX: y\r\nCONTENT-LENGTH: 1\r\n\r\n!", 5, "!", false},
	{"http1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0a;x=y\r\n0123456789\r\n0\r\nT: v\r\n\r\n", 0, "abc0123456789", false},
	{"http1", "HTTP/1.1 100 Continue\r\n\r\n", 0, "", true},
	{"resp", "+OK\r\n", 0, "OK", false},
	{"resp", "-ERR no\r\n", RESPError, "ERR no", false},
	{"resp", ":-12\r\n", 0, "-12", false},
	{"resp", "$5\r\na\r\nbc\r\n", 0, "a\r\nbc", false},
	{"resp", "$0\r\n\r\n", 0, "", false},
	{"resp", "$-1\r\n", RESPNull, "", false},
	{"resp", "*-1\r\n", RESPNull, "", false},
	{"resp", "_\r\n", RESPNull, "", false},
	{"resp", "#t\r\n", 0, "t", false},
	{"resp", ",1.5e3\r\n", 0, "1.5e3", false},
	{"resp", "(123456789012345678901234567890\r\n", 0, "123456789012345678901234567890", false},
	{"resp", "!3\r\nBAD\r\n", RESPError, "BAD", false},
	{"resp", "=7\r\ntxt:abc\r\n", 0, "abc", false},
	{"resp", "*2\r\n:1\r\n*1\r\n$1\r\nx\r\n", 0, "*2\r\n:1\r\n*1\r\n$1\r\nx\r\n", false},
	{"resp", "%1\r\n+a\r\n:1\r\n", 0, "%1\r\n+a\r\n:1\r\n", false},
	{"resp", "*2\r\n|1\r\n+a\r\n:1\r\n:2\r\n:3\r\n", 0, "*2\r\n|1\r\n+a\r\n:1\r\n:2\r\n:3\r\n", false},
	{"resp", "|1\r\n+ttl\r\n:9\r\n+OK\r\n", 0, "OK", false},
	{"resp", ">2\r\n+message\r\n+hi\r\n", 0, ">2\r\n+message\r\n+hi\r\n", true},
	{"resp", "*0\r\n", 0, "*0\r\n", false},
}

func newCodec(t testing.TB, name string) Codec {
	t.Helper()
	c, err := New(name, "host", false)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Each answer parses whole, followed by another, and never from a part of it.
func TestParse(t *testing.T) {
	for _, c := range parseCases {
		codec := newCodec(t, c.codec)
		for cut := range len(c.wire) {
			if r, n, err := codec.Parse([]byte(c.wire[:cut])); n != 0 || err != nil {
				t.Errorf("%q cut at %d: %+v, %d, %v", c.wire, cut, r, n, err)
			}
		}
		for _, after := range []string{"", "HTTP/1.1 5", "+"} {
			r, n, err := codec.Parse([]byte(c.wire + after))
			if err != nil || n != len(c.wire) || r.Status != c.status || string(r.Body) != c.body || r.Push != c.push {
				t.Errorf("%q: %+v, %d, %v", c.wire+after, r, n, err)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ codec, wire string }{
		{"http1", "SSH-2.0"},
		{"http1", "HTTP/2"},
		{"http1", "HTTP/1.1 20 OK\r\n\r\n"},
		{"http1", "HTTP/1.1 999 OK\r\n\r\n"},
		{"http1", "HTTP/1.1 200 OK\r\n\r\n"},
		{"http1", "HTTP/1.1 101 Switching Protocols\r\n\r\n"},
		{"http1", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"},
		{"http1", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"},
		{"http1", "HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n"},
		{"http1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"},
		{"http1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"},
		{"http1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"},
		{"http1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc"},
		{"http1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n"},
		{"http1", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", httpHeaderLenMax)},
		{"resp", "hello"},
		{"resp", "+OK\n"},
		{"resp", ":1x\r\n"},
		{"resp", ":\r\n"},
		{"resp", "$-2\r\n"},
		{"resp", "$1\r\nab\r\n"},
		{"resp", "$999999999\r\n"},
		{"resp", "*9999999999\r\n"},
		{"resp", "*2000000\r\n"},
		{"resp", "#x\r\n"},
		{"resp", "_x\r\n"},
		{"resp", strings.Repeat("*1\r\n", 20) + ":1\r\n"},
		{"resp", "+" + strings.Repeat("y", respLineLenMax)},
		{"frame", string(frame.Append(nil, frame.Frame{Kind: frame.KindPing}))},
		{"frame", "HTTP/1.1"},
	} {
		if r, n, err := newCodec(t, c.codec).Parse([]byte(c.wire)); err == nil {
			t.Errorf("%s %.60q: %+v, %d bytes", c.codec, c.wire, r, n)
		}
	}
}

func TestAppend(t *testing.T) {
	for _, c := range []struct {
		codec   string
		request Request
		want    string
	}{
		{"http1", Request{Kind: HTTPGet}, "GET / HTTP/1.1\r\nHost: host\r\n\r\n"},
		{"http1", Request{Kind: HTTPPut, Key: []byte("/k"), Body: []byte("v")}, "PUT /k HTTP/1.1\r\nHost: host\r\nContent-Length: 1\r\n\r\nv"},
		{"http1", Request{Kind: HTTPPost}, "POST / HTTP/1.1\r\nHost: host\r\nContent-Length: 0\r\n\r\n"},
		{"http1", Request{Kind: HTTPDelete, Key: []byte("/k")}, "DELETE /k HTTP/1.1\r\nHost: host\r\n\r\n"},
		{"resp", Request{Kind: RESPPing}, "*1\r\n$4\r\nPING\r\n"},
		{"resp", Request{Kind: RESPGet, Key: []byte("k")}, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"},
		{"resp", Request{Kind: RESPSet, Key: []byte("k"), Body: []byte("vw")}, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvw\r\n"},
		{"resp", Request{Kind: RESPDel, Key: []byte("k")}, "*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n"},
		{"resp", Request{Kind: RESPIncr, Key: []byte("k")}, "*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n"},
		{"resp", Request{Kind: RESPRaw, Body: AppendCommand(nil, []byte("HELLO"), []byte("3"))}, "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"},
	} {
		got, err := newCodec(t, c.codec).Append([]byte("before"), &c.request)
		if err != nil || string(got) != "before"+c.want {
			t.Errorf("%s: %q, %v; want %q", c.codec, got, err, c.want)
		}
	}
	for _, c := range []struct {
		codec   string
		request Request
	}{
		{"http1", Request{Kind: 9}},
		{"http1", Request{Key: []byte("/a b")}},
		{"http1", Request{Key: []byte("/\r\nEvil: 1")}},
		{"resp", Request{Kind: 99}},
		{"frame", Request{Body: make([]byte, frame.BodyLenMax+1)}},
	} {
		if got, err := newCodec(t, c.codec).Append([]byte("x"), &c.request); err == nil || string(got) != "x" {
			t.Errorf("%s %+v: %.40q, %v", c.codec, c.request.Kind, got, err)
		}
	}
}

func TestFrameRoundTrip(t *testing.T) {
	c := newCodec(t, "frame")
	wire, err := c.Append(nil, &Request{ID: 77, Tenant: 3, Kind: uint8(frame.KindPing | frame.KindReply), Body: []byte("body")})
	if err != nil {
		t.Fatal(err)
	}
	r, n, err := c.Parse(wire)
	if err != nil || n != len(wire) || r.ID != 77 || string(r.Body) != "body" || c.Ordered() {
		t.Fatalf("%+v %d %v", r, n, err)
	}
	if _, err := New("thrift", "", false); err == nil {
		t.Error("an unknown codec was accepted")
	}
}

// Whatever arrives, a parser neither panics nor reads beyond it, and gives the
// same answer when bytes come in two parts: a prefix is either incomplete or
// yields what the whole yields.
func fuzzCodec(f *testing.F, name string) {
	for _, c := range parseCases {
		f.Add([]byte(c.wire), 3)
	}
	f.Add(frame.Append(nil, frame.Frame{Kind: frame.KindPing | frame.KindReply, Body: []byte("x")}), 9)
	f.Fuzz(func(t *testing.T, src []byte, cut int) {
		whole := newCodec(t, name)
		r, n, err := whole.Parse(bytes.Clone(src))
		if n < 0 || n > len(src) || (err != nil && n != 0) {
			t.Fatalf("%d of %d bytes, %v", n, len(src), err)
		}
		body := bytes.Clone(r.Body)
		if cut < 0 || cut > len(src) {
			return
		}
		early, m, cutErr := newCodec(t, name).Parse(bytes.Clone(src[:cut]))
		switch {
		case m > 0 && (m != n || early.Status != r.Status || !bytes.Equal(early.Body, body)):
			t.Fatalf("%d bytes of %q give %+v, all give %+v", cut, src, early, r)
		case cutErr != nil && err == nil && n > 0 && n <= cut:
			t.Fatalf("%d bytes of %q are refused (%v), all are taken", cut, src, cutErr)
		case cutErr != nil && err == nil && n > 0:
			t.Fatalf("a prefix of the good answer %q is refused: %v", src[:n], cutErr)
		case n > 0 && cut >= n && m != n:
			t.Fatalf("%q ends at %d, yet %d bytes give %d", src, n, cut, m)
		}
	})
}

func FuzzHTTP(f *testing.F)  { fuzzCodec(f, "http1") }
func FuzzRESP(f *testing.F)  { fuzzCodec(f, "resp") }
func FuzzFrame(f *testing.F) { fuzzCodec(f, "frame") }

func TestErrorsAreRecognisable(t *testing.T) {
	for name, want := range map[string]error{"http1": ErrHTTP, "resp": ErrRESP} {
		if _, _, err := newCodec(t, name).Parse([]byte("\x00\x00\x00\x00\x00\x00\x00\x00")); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkCodec(b *testing.B) {
	for name, wire := range map[string][]byte{
		"frame": frame.Append(nil, frame.Frame{Kind: frame.KindPing | frame.KindReply, Body: make([]byte, 16)}),
		"http1": []byte(parseCases[0].wire),
		"resp":  []byte("$16\r\n0123456789abcdef\r\n"),
	} {
		b.Run(fmt.Sprintf("%s_append", name), func(b *testing.B) {
			c := newCodec(b, name)
			request := Request{Kind: 1, Key: []byte("/key"), Body: make([]byte, 16)}
			var out []byte
			b.ReportAllocs()
			for b.Loop() {
				out, _ = c.Append(out[:0], &request)
			}
		})
		b.Run(fmt.Sprintf("%s_parse", name), func(b *testing.B) {
			c := newCodec(b, name)
			b.ReportAllocs()
			for b.Loop() {
				if _, n, err := c.Parse(wire); n != len(wire) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// An unchecked frame goes out and comes back over datagrams, and over nothing else.
func TestUncheckedFrames(t *testing.T) {
	request := &Request{ID: 5, Tenant: 3, Kind: uint8(frame.KindGet), Body: []byte("body"), Unchecked: true}
	if wire, err := (Frame{}).Append(nil, request); err == nil || len(wire) != 0 {
		t.Errorf("over a stream: %x, error %v", wire, err)
	}
	codec := Frame{Datagrams: true}
	wire, err := codec.Append(nil, request)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := frame.ParseDatagram(wire); err != nil || f.Flags != frame.FlagUnchecked || f.ID != 5 {
		t.Errorf("sent %x: %+v, error %v", wire, f, err)
	}
	answer := frame.Append(nil, frame.Frame{Kind: frame.KindGet | frame.KindReply, Flags: frame.FlagUnchecked, ID: 5, Body: []byte("value")})
	r, n, err := codec.Parse(answer)
	if err != nil || n != len(answer) || r.ID != 5 || string(r.Body) != "value" {
		t.Errorf("answer: %+v, %d, %v", r, n, err)
	}
	if _, _, err := (Frame{}).Parse(answer); err == nil {
		t.Error("an unchecked answer was taken from a stream")
	}
}
