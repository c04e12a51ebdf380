package sink

import "sync"

// tickets number the changes in the order in which they were put and say up to
// which all are settled, whatever the order in which workers settle them.
type tickets struct {
	mu       sync.Mutex
	first    uint64 // ticket of open[0]
	open     []ticket
	settled  uint64 // tickets below are settled: the number of settled ones in front
	place    uint64 // position of the last of them
	assigned uint64
	news     chan struct{} // closed when settled grows
}

type ticket struct {
	position uint64
	done     bool
}

// next is the number of the change that is about to be put; giveBack, if it
// isn't, follows before the next one.
func (t *tickets) next(position uint64) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.assigned
	t.assigned++
	t.open = append(t.open, ticket{position: position})
	return n
}

func (t *tickets) giveBack() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.assigned--
	t.open = t.open[:len(t.open)-1]
}

func (t *tickets) last() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.assigned
}

func (t *tickets) state() (settled uint64, news <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.settled, t.news
}

func (t *tickets) position() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.place
}

// settle marks changes as settled.
func (t *tickets) settle(batch []queued) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, q := range batch {
		t.open[q.ticket-t.first].done = true
	}
	t.advance()
}

func (t *tickets) advance() {
	n := 0
	for n < len(t.open) && t.open[n].done {
		t.place = max(t.place, t.open[n].position)
		n++
	}
	if n == 0 {
		return
	}
	t.open = append(t.open[:0], t.open[n:]...)
	t.first += uint64(n)
	t.settled += uint64(n)
	close(t.news)
	t.news = make(chan struct{})
}
