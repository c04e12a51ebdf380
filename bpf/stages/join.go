package stages

// Request is one answered request as the client saw it. Its fields are those of
// loadgen.Traced; over UDP the id finds its packets, over TCP the port and the
// byte offsets do.
type Request struct {
	Port       uint16
	ID         uint64
	RequestEnd uint64
	AnswerEnd  uint64
	IntendedNs int64
	SentNs     int64
	AnsweredNs int64
}

// LatencyNs is what the client saw, from the intended time.
func (r *Request) LatencyNs() int64 { return r.AnsweredNs - r.IntendedNs }

// Stamps are the times at which a request's last byte and its answer's last byte
// passed each edge.
type Stamps struct {
	ClientTxNs, ServerRxNs, ServerTxNs, ClientRxNs int64
	Thread                                         uint32 // that sent the answer; 0: not known
}

// backwardNsMax is how far two of the kernel's clocks may disagree: what
// bpf_ktime_get_ns reads may lag behind clock_gettime by an update's length.
const backwardNsMax = 1000

// Join finds requests in a log.
type Join struct {
	tcp     map[uint32]*connection
	udp     map[datagram]*Stamps
	lines   map[uint32]timeline
	threads map[uint32]uint32 // by port: who answered there last, for segments sent by an interrupt
}

type connection struct {
	client, server [2]stream // each: what it sent, what it received
}

type datagram struct {
	port uint32
	id   uint64
}

// NewJoin indexes a log, whose events must be in order.
func NewJoin(log *Log) *Join {
	j := &Join{tcp: map[uint32]*connection{}, udp: map[datagram]*Stamps{}, lines: timelines(log), threads: map[uint32]uint32{}}
	for i := range log.Events {
		e := &log.Events[i]
		if e.Kind < ClientTx {
			continue
		}
		if e.Flags&Datagram != 0 {
			j.datagram(e)
			continue
		}
		j.segment(e)
	}
	return j
}

func (j *Join) segment(e *Event) {
	c := j.tcp[e.Who]
	if c == nil {
		c = &connection{}
		j.tcp[e.Who] = c
	}
	s := map[EventKind]*stream{ClientTx: &c.client[0], ServerRx: &c.server[1], ServerTx: &c.server[0], ClientRx: &c.client[1]}[e.Kind]
	if e.Flags&Syn != 0 {
		s.open(uint32(e.Value))
		return
	}
	s.add(uint32(e.Value), e.Len, e.Ns, j.sender(e))
}

// sender is the thread that sent, or sent last on this connection when an
// interrupt did it for it (TCP sends what the window held back when an
// acknowledgement arrives).
func (j *Join) sender(e *Event) uint32 {
	if e.Kind != ServerTx {
		return 0
	}
	if e.Other != 0 && e.Context == Thread {
		j.threads[e.Who] = e.Other
	}
	return j.threads[e.Who]
}

func (j *Join) datagram(e *Event) {
	key := datagram{e.Who, e.Value}
	s := j.udp[key]
	if s == nil {
		s = &Stamps{}
		j.udp[key] = s
	}
	at := map[EventKind]*int64{ClientTx: &s.ClientTxNs, ServerRx: &s.ServerRxNs, ServerTx: &s.ServerTxNs, ClientRx: &s.ClientRxNs}[e.Kind]
	if *at != 0 {
		return // sent twice: the first counts
	}
	*at = e.Ns
	if e.Kind == ServerTx {
		s.Thread = j.sender(e)
	}
}

// Outcome says whether a request's stages are known.
type Outcome uint8

// Outcomes.
const (
	Joined     Outcome = iota
	Missing            // a packet of it is not in the log
	Disordered         // its times contradict each other
	OutcomeCount
)

// Stamps finds the times of a request's packets.
func (j *Join) Stamps(r *Request) (Stamps, bool) {
	if s := j.udp[datagram{uint32(r.Port), r.ID}]; s != nil {
		return *s, s.ClientTxNs != 0 && s.ServerRxNs != 0 && s.ServerTxNs != 0 && s.ClientRxNs != 0
	}
	c := j.tcp[uint32(r.Port)]
	if c == nil {
		return Stamps{}, false
	}
	clientTx, ok1 := c.client[0].passed(r.RequestEnd)
	serverRx, ok2 := c.server[1].passed(r.RequestEnd)
	serverTx, ok3 := c.server[0].passed(r.AnswerEnd)
	clientRx, ok4 := c.client[1].passed(r.AnswerEnd)
	return Stamps{clientTx.ns, serverRx.ns, serverTx.ns, clientRx.ns, serverTx.thread}, ok1 && ok2 && ok3 && ok4
}

// Break splits a request's latency. Of a joined one the stages sum to exactly
// what the client saw.
func (j *Join) Break(r *Request) (Breakdown, Outcome) {
	var b Breakdown
	s, ok := j.Stamps(r)
	if !ok {
		return b, Missing
	}
	times := [...]int64{r.IntendedNs, r.SentNs, s.ClientTxNs, s.ServerRxNs, s.ServerTxNs, s.ClientRxNs, r.AnsweredNs}
	for i := 1; i < len(times); i++ {
		if times[i] < times[i-1]-backwardNsMax {
			return b, Disordered
		}
	}
	b[ScheduleLag] = r.SentNs - r.IntendedNs
	b[Generator] = s.ClientTxNs - r.SentNs + r.AnsweredNs - s.ClientRxNs
	b[NetworkIn] = s.ServerRxNs - s.ClientTxNs
	b[NetworkOut] = s.ClientRxNs - s.ServerTxNs
	path(j.lines, s.Thread, s.ServerRxNs, s.ServerTxNs, &b)
	return b, Joined
}
