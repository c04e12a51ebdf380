package ring

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// datagramRecorder keeps each datagram apart.
type datagramRecorder struct {
	recorder
	datagrams [][]byte
}

func (r *datagramRecorder) Received(_ int, p []byte) {
	r.datagrams = append(r.datagrams, bytes.Clone(p))
}

// With and without runs, an echo gives back the same datagrams.
func TestDatagramsKeepTheirBounds(t *testing.T) {
	for _, offload := range []bool{false, true} {
		t.Run(fmt.Sprint(offload), func(t *testing.T) {
			s, _ := newSet(t, Options{Conns: 1, Target: echo(t, "udp"), UDPOffload: offload})
			got := &datagramRecorder{}
			s.handler = got
			features := strings.Join(s.Features(), " ")
			if strings.Contains(features, "udp_segment") != offload {
				t.Errorf("offload %v, features %s", offload, features)
			}
			random := rand.New(rand.NewPCG(5, 6))
			for round := range 30 {
				var sent [][]byte
				got.datagrams = got.datagrams[:0]
				for range 1 + random.IntN(20) { // what the echo's receive buffer surely holds
					length := []int{1, 40, 40, 40, 1400, 3000}[random.IntN(6)]
					p := bytes.Repeat([]byte{byte(random.Uint32())}, length)
					sent = append(sent, p)
					s.SetOut(0, append(s.Out(0), p...))
				}
				if !s.Flush(0) {
					t.Fatal("nothing was flushed")
				}
				turn(t, s, "echoes", func() bool { return len(got.datagrams) >= len(sent) && s.conns[0].sending == 0 })
				if !slices.EqualFunc(got.datagrams, sent, bytes.Equal) {
					t.Fatalf("round %d: %d datagrams came back of %d, or others", round, len(got.datagrams), len(sent))
				}
			}
		})
	}
}
