package loadgen

// TracedMax bounds Config.TraceMax; an entry takes 56 bytes.
const TracedMax = 1 << 20

// Traced is one right answer to a request of the measured part. Times are
// CLOCK_MONOTONIC, ns. Port and the offsets find the request's packets: its
// last byte is byte RequestEnd of what its connection sent, and the answer's
// last byte is byte AnswerEnd of what the connection received, both counted
// from 1 since it was opened. Over UDP the id, which is in both frames, does.
type Traced struct {
	Port       uint16 // local port of the connection
	ID         uint64
	RequestEnd uint64
	AnswerEnd  uint64
	IntendedNs int64
	SentNs     int64
	AnsweredNs int64
}

// LatencyNs is what the client saw, counted from the intended send time.
func (t *Traced) LatencyNs() int64 { return t.AnsweredNs - t.IntendedNs }

// connTrace counts the bytes of one connection.
type connTrace struct {
	port     uint16
	sent     uint64
	received uint64
	ends     []uint64 // by slot: RequestEnd
}

func (t *connTrace) opened(port uint16) { t.port, t.sent, t.received = port, 0, 0 }

func (t *connTrace) encoded(slot int32, n int) {
	t.sent += uint64(n)
	t.ends[slot] = t.sent
}

// tracer is one worker's; its entries are allocated before the clock starts.
type tracer struct {
	entries []Traced
	missed  uint64 // had no room
}

func (t *tracer) answered(c *conn, i int32, s *slot, nowNs int64) {
	if len(t.entries) == cap(t.entries) {
		t.missed++
		return
	}
	t.entries = append(t.entries, Traced{
		Port: c.trace.port, ID: uint64(s.generation)<<32 | uint64(uint32(i)),
		RequestEnd: c.trace.ends[i], AnswerEnd: c.trace.received,
		IntendedNs: s.intendedNs, SentNs: s.sentNs, AnsweredNs: nowNs,
	})
}
