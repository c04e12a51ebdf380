package nullserver

import (
	"bytes"
	"testing"

	"github.com/nexuscore-labs/nexus/frame"
)

var requests = map[string][]byte{
	"frame": frame.Append(nil, frame.Frame{Kind: frame.KindPing, ID: 5, Body: []byte("body")}),
	"http1": []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
	"resp":  []byte("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
}

// Any cut of two requests gives the same answers as both at once.
func TestAnswersAreIncremental(t *testing.T) {
	for protocol, one := range requests {
		answer, err := responderOf(protocol)
		if err != nil {
			t.Fatal(err)
		}
		src := append(bytes.Clone(one), one...)
		want, taken, err := answer(nil, src)
		if err != nil || taken != len(src) || len(want) == 0 {
			t.Fatalf("%s: %q, %d, %v", protocol, want, taken, err)
		}
		for cut := range src {
			out, n, err := answer(nil, src[:cut])
			if err != nil || n != cut/len(one)*len(one) {
				t.Fatalf("%s cut at %d: %d, %v", protocol, cut, n, err)
			}
			if out, _, err = answer(out, src[n:]); err != nil || !bytes.Equal(out, want) {
				t.Fatalf("%s cut at %d: %q, %v", protocol, cut, out, err)
			}
		}
	}
	if _, err := responderOf("gopher"); err == nil {
		t.Error("an unknown protocol was accepted")
	}
	for _, bad := range []Config{
		{Network: "udp", Address: "127.0.0.1:0", Protocol: "http1"},
		{Network: "tcp", Address: "127.0.0.1:0", Protocol: "gopher"},
		{Network: "unix", Address: "/nonexistent/s", Protocol: "frame"},
	} {
		if _, err := Start(bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

// Whatever arrives, a responder takes no more than there is.
func FuzzAnswers(f *testing.F) {
	for _, r := range requests {
		f.Add(r)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		for protocol := range requests {
			answer, err := responderOf(protocol)
			if err != nil {
				t.Fatal(err)
			}
			if _, taken, _ := answer(nil, src); taken < 0 || taken > len(src) {
				t.Fatalf("%s: %d of %d bytes", protocol, taken, len(src))
			}
		}
	})
}
