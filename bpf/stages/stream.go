package stages

import "sort"

// stream is one direction of one TCP connection at one edge: when the first so
// many bytes had passed. Bytes count from 1. Retransmissions and reordering are
// handled: a byte has passed when it and all before it have.
type stream struct {
	known bool   // the opening segment was seen
	base  uint64 // unwrapped sequence number of byte 1
	last  uint64 // highest unwrapped sequence number so far, for unwrapping
	done  uint64 // bytes that have passed
	marks []mark
	early []span // beyond a gap
}

type mark struct {
	end    uint64 // so many bytes had passed
	ns     int64
	thread uint32 // that sent the segment which completed them; 0: unknown
}

type span struct {
	start, end uint64 // bytes start+1 to end
	mark       mark
}

const earlyMax = 1024 // gaps are rare; more than these are given up

// open takes the sequence number of the connection's SYN.
func (s *stream) open(seq uint32) {
	*s = stream{known: true, base: 1<<32 + uint64(seq) + 1}
	s.last = s.base
}

// add takes a segment. Times must not go back between calls.
func (s *stream) add(seq, length uint32, ns int64, thread uint32) {
	if !s.known || length == 0 {
		return
	}
	at := s.unwrap(seq)
	if at < s.base {
		return // a keep-alive probe repeats the byte before the first
	}
	start := at - s.base
	end := start + uint64(length)
	if start > s.done {
		if len(s.early) < earlyMax {
			s.early = append(s.early, span{start, end, mark{end, ns, thread}})
		}
		return
	}
	if end <= s.done {
		return
	}
	s.pass(end, ns, thread)
	for s.closeGap(ns) {
	}
}

func (s *stream) pass(end uint64, ns int64, thread uint32) {
	s.done = end
	s.marks = append(s.marks, mark{end, ns, thread})
}

// closeGap appends one early segment that is early no more.
func (s *stream) closeGap(ns int64) bool {
	for i, e := range s.early {
		if e.start > s.done {
			continue
		}
		s.early[i] = s.early[len(s.early)-1]
		s.early = s.early[:len(s.early)-1]
		if e.end > s.done {
			s.pass(e.end, ns, e.mark.thread)
		}
		return true
	}
	return false
}

// unwrap turns a 32-bit sequence number into one that doesn't wrap: the nearest
// to the last seen.
func (s *stream) unwrap(seq uint32) uint64 {
	at := s.last + uint64(int64(int32(seq-uint32(s.last))))
	s.last = max(s.last, at)
	return at
}

// passed says when the first end bytes had passed, and by which thread's segment.
func (s *stream) passed(end uint64) (mark, bool) {
	i := sort.Search(len(s.marks), func(i int) bool { return s.marks[i].end >= end })
	if i == len(s.marks) {
		return mark{}, false
	}
	return s.marks[i], true
}
