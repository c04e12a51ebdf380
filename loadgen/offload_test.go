package loadgen

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
	"golang.org/x/sys/unix"
)

// lossy is a datagram server that loses, repeats and reorders answers, sends
// them in runs of equal length, and counts what it did.
type lossy struct {
	conn                  *net.UDPConn
	lost, asked, repeated atomic.Uint64
	wg                    sync.WaitGroup
}

func startLossy(t *testing.T, loss, repeat float64, reorder bool) *lossy {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		// Whatever is dropped must be dropped here, where it is counted.
		err = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	l := &lossy{conn: conn}
	l.wg.Go(func() { l.serve(loss, repeat, reorder) })
	t.Cleanup(func() {
		_ = conn.Close()
		l.wg.Wait()
	})
	return l
}

func (l *lossy) serve(loss, repeat float64, reorder bool) {
	random := rand.New(rand.NewPCG(8, 9))
	held := map[string][][]byte{} // answers by client
	to := map[string]*net.UDPAddr{}
	p := make([]byte, 64<<10)
	for {
		// What is held goes after a moment without requests.
		_ = l.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		n, from, err := l.conn.ReadFromUDP(p)
		if err == nil {
			f, taken, err := frame.Parse(p[:n])
			if err != nil || taken != n {
				continue // the count of answers will tell
			}
			l.asked.Add(1)
			f.Kind |= frame.KindReply
			answer := frame.Append(nil, f)
			draw := random.Float64()
			switch {
			case draw < loss:
				l.lost.Add(1)
				continue
			case draw < loss+repeat:
				l.repeated.Add(1)
				held[from.String()] = append(held[from.String()], answer)
			}
			held[from.String()] = append(held[from.String()], answer)
			to[from.String()] = from
			if len(held[from.String()]) < 8 {
				continue
			}
		} else if !isTimeout(err) {
			return
		}
		for client, answers := range held {
			if reorder {
				random.Shuffle(len(answers), func(i, j int) { answers[i], answers[j] = answers[j], answers[i] })
			}
			if !l.send(answers, to[client]) {
				return
			}
			delete(held, client)
		}
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// send joins neighbours of one length into runs, which a client that asked for
// it takes as one.
func (l *lossy) send(answers [][]byte, to *net.UDPAddr) bool {
	for len(answers) > 0 {
		n, run := 1, answers[0]
		for n < len(answers) && len(answers[n]) == len(answers[0]) && len(answers[0]) <= 1400 {
			run = append(run[:len(run):len(run)], answers[n]...)
			n++
		}
		oob := make([]byte, unix.CmsgSpace(2))
		binary.NativeEndian.PutUint64(oob, uint64(unix.CmsgLen(2)))
		binary.NativeEndian.PutUint32(oob[8:], unix.SOL_UDP)
		binary.NativeEndian.PutUint32(oob[12:], unix.UDP_SEGMENT)
		binary.NativeEndian.PutUint16(oob[16:], uint16(len(answers[0])))
		if n == 1 {
			oob = nil
		}
		if _, _, err := l.conn.WriteMsgUDP(run, oob, to); err != nil {
			return false
		}
		answers = answers[n:]
	}
	return true
}

// mixedSource is an echoSource whose bodies have few or many lengths.
type mixedSource struct {
	echoSource
	lengths []int
}

func (s *mixedSource) Fork(worker, workers int) Source {
	return &mixedSource{*s.echoSource.Fork(worker, workers).(*echoSource), s.lengths}
}

func (s *mixedSource) resize(stream uint32, token uint64) {
	n := s.lengths[(uint64(stream)+token)%uint64(len(s.lengths))]
	s.body, s.expected = s.body[:n], s.expected[:n]
}

func (s *mixedSource) Next(stream uint32, op *Op) {
	s.resize(stream, s.next[stream])
	s.echoSource.Next(stream, op)
}

func (s *mixedSource) Check(stream uint32, token uint64, reply *Reply) Judgement {
	s.resize(stream, token)
	return s.echoSource.Check(stream, token, reply)
}

func newMixedSource(streams int, lengths []int) *mixedSource {
	return &mixedSource{*newEchoSource(streams, 4096), lengths}
}

// With and without UDP offload every request has one end, and as many are lost
// as the server lost.
func TestDatagramAccounting(t *testing.T) {
	for _, c := range []struct {
		name         string
		loss, repeat float64
		reorder      bool
		lengths      []int
	}{
		{"clean", 0, 0, false, []int{32}},
		{"loss", 0.05, 0, false, []int{32}},
		{"reorder", 0, 0, true, []int{32}},
		{"mixed", 0, 0, false, []int{8, 8, 8, 40, 1300, 40, 40, 3000, 1}},
		{"loss, reorder, mixed", 0.05, 0, true, []int{8, 8, 8, 40, 1300, 40, 40, 3000, 1}},
		{"repeat", 0, 0.01, false, []int{32}},
	} {
		for _, offload := range []bool{false, true} {
			for _, arrival := range []string{"burst", "closed"} {
				t.Run(fmt.Sprintf("%s/offload %v/%s", c.name, offload, arrival), func(t *testing.T) {
					t.Parallel()
					testDatagramAccounting(t, startLossy(t, c.loss, c.repeat, c.reorder), offload, arrival, c.lengths)
				})
			}
		}
	}
}

func testDatagramAccounting(t *testing.T, server *lossy, offload bool, arrival string, lengths []int) {
	const streams = 64
	var source *mixedSource
	var sent, timeouts uint64
	told := false
	for window := 200 * time.Millisecond; sent < 500 && window < 20*time.Second; window *= 3 {
		source = newMixedSource(streams, lengths)
		r, err := Run(t.Context(), Config{
			Target: Target{Network: "udp", Address: server.conn.LocalAddr().String()}, Arrival: arrival, RatePerS: 5000, BurstLen: 40,
			Streams: streams, Connections: 4, Duration: window, Timeout: 2 * time.Second, UDPOffload: offload, Source: source,
		})
		if err != nil {
			t.Fatal(err)
		}
		checkAccounting(t, r)
		checkEnds(t, &source.echoSource)
		sent, timeouts = sent+r.Sent, timeouts+r.Timeouts
		if on := strings.Contains(strings.Join(r.Features, " "), "udp_segment"); on != offload {
			t.Errorf("offload %v, features %v", offload, r.Features)
		}
		told = told || strings.Contains(r.FirstWrong, errTwice.Error()) && len(r.Invalid) > 0
		repeated := server.repeated.Load()
		if r.Wrong+r.Errors > 0 && repeated == 0 || r.Completed == 0 && r.Sent > 0 {
			t.Errorf("%d completed, %d wrong: %s, %d errors: %s", r.Completed, r.Wrong, r.FirstWrong, r.Errors, r.FirstError)
		}
	}
	if server.repeated.Load() > 0 {
		if !told {
			t.Error("no run told of the repeated answers")
		}
		return // the connection is given up with what was under way
	}
	if asked, lost := server.asked.Load(), server.lost.Load(); asked != sent || lost != timeouts {
		t.Errorf("the server was asked %d times and lost %d; %d were sent and %d timed out", asked, lost, sent, timeouts)
	}
}

// The null server too gives each datagram of a run its own answer.
func TestNullServerAnswersRuns(t *testing.T) {
	for _, lengths := range [][]int{{32}, {0, 8, 8, 40, 40, 40, 1300, 2900}} {
		source := newMixedSource(64, lengths)
		r := untilAnswered(t, 100*time.Millisecond, func(window time.Duration) *Result {
			r, err := Run(t.Context(), Config{
				Target: startNull(t, "udp", "frame"), Arrival: "closed", Streams: 64, Connections: 2, Duration: window,
				Timeout: 20 * time.Second, UDPOffload: true, Source: source,
			})
			if err != nil {
				t.Fatal(err)
			}
			return r
		})
		if r.Completed != r.Sent {
			t.Errorf("lengths %v: %+v", lengths, r)
		}
	}
}

// A datagram that ends within an answer is no beginning of the next one.
func TestDatagramsHoldWholeAnswers(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		p := make([]byte, 64<<10)
		for {
			n, from, err := conn.ReadFromUDP(p)
			if err != nil {
				return
			}
			p[5] |= byte(frame.KindReply)
			_, _ = conn.WriteToUDP(p[:n/2], from)
			_, _ = conn.WriteToUDP(p[n/2:n], from)
		}
	}()
	r := untilSent(t, conn.LocalAddr().String())
	if r.Completed > 0 || r.Wrong == 0 || !strings.Contains(r.FirstWrong, errPartial.Error()) {
		t.Errorf("%+v", r)
	}
}

func untilSent(t *testing.T, address string) *Result {
	t.Helper()
	var r *Result
	for window := 50 * time.Millisecond; window < 20*time.Second && (r == nil || r.Sent == 0); window *= 10 {
		var err error
		r, err = Run(t.Context(), Config{
			Target: Target{Network: "udp", Address: address}, RatePerS: 200, Duration: window, Timeout: 300 * time.Millisecond, Source: newEchoSource(1, 8),
		})
		if err != nil {
			t.Fatal(err)
		}
		checkAccounting(t, r)
	}
	return r
}
