package host

import (
	"context"
	"errors"
	"sync"
)

// Pool keeps fresh instances ready. An instance leaves it once and never comes
// back: nothing of one tenant can reach another.
type Pool struct {
	module  *Module
	exports []string
	ready   chan *Instance
	taken   chan struct{} // one token per instance to make
	done    chan struct{} // closed to end the filler
	filler  sync.WaitGroup
	once    sync.Once
}

// NewPool starts filling a pool of the given size. The instances come with the
// named exports looked up already, each with a stack of its own: Func finds them
// without allocating.
func NewPool(m *Module, size int, exports ...string) (*Pool, error) {
	if size <= 0 {
		return nil, errors.New("host: pool size must be positive")
	}
	p := &Pool{
		module:  m,
		exports: exports,
		ready:   make(chan *Instance, size),
		taken:   make(chan struct{}, size),
		done:    make(chan struct{}),
	}
	for range size {
		p.taken <- struct{}{}
	}
	p.filler.Go(p.fill)
	return p, nil
}

func (p *Pool) fill() {
	for {
		select {
		case <-p.done:
			return
		case <-p.taken:
		}
		instance, err := p.start(context.Background())
		if err != nil {
			return // Get meets the same error and reports it
		}
		p.ready <- instance // there is room: taken holds as many tokens
	}
}

// Get returns an instance that nobody used before: a ready one, or else one
// started now. The caller closes it.
func (p *Pool) Get(ctx context.Context) (*Instance, error) {
	select {
	case instance := <-p.ready:
		p.module.runtime.stats.FromPool.Add(1)
		p.taken <- struct{}{}
		return instance, nil
	default:
		return p.start(ctx)
	}
}

func (p *Pool) start(ctx context.Context) (*Instance, error) {
	instance, err := p.module.Instantiate(ctx)
	if err != nil {
		return nil, err
	}
	if err := instance.lookUp(p.exports); err != nil {
		return nil, errors.Join(err, instance.Close(ctx))
	}
	return instance, nil
}

// Ready says whether Get would find an instance ready.
func (p *Pool) Ready() bool { return len(p.ready) > 0 }

// Close ends the filler and the ready instances.
func (p *Pool) Close(ctx context.Context) (err error) {
	p.once.Do(func() {
		close(p.done)
		p.filler.Wait()
		for {
			select {
			case instance := <-p.ready:
				err = errors.Join(err, instance.Close(ctx))
			default:
				return
			}
		}
	})
	return err
}
