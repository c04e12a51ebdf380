package tenantfiles

import (
	"container/list"
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// filePool keeps at most limit files open. A file in use is never closed.
type filePool struct {
	limit int

	mu      sync.Mutex
	freed   sync.Cond // a file is no longer in use, or was closed
	open    int       // files open or being opened
	entries map[uint32]*pooledFile
	idle    *list.List // of *pooledFile, least recently used in front
	closed  error      // of files that were evicted
}

type pooledFile struct {
	id    uint32
	file  *os.File
	place *list.Element // in idle, nil while in use
}

func newFilePool(limit int) *filePool {
	p := &filePool{limit: limit, entries: make(map[uint32]*pooledFile), idle: list.New()}
	p.freed.L = &p.mu
	return p
}

// acquire returns id's file, opened by open if it is not. One goroutine at a
// time uses one id.
func (p *filePool) acquire(id uint32, open func() (*os.File, error)) (*os.File, error) {
	p.mu.Lock()
	if e := p.entries[id]; e != nil {
		p.idle.Remove(e.place)
		e.place = nil
		p.mu.Unlock()
		return e.file, nil
	}
	for p.open >= p.limit && !p.evict() {
		p.freed.Wait()
	}
	p.open++
	p.mu.Unlock()

	file, err := open()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.open--
		p.freed.Signal()
		return nil, err
	}
	p.entries[id] = &pooledFile{id: id, file: file}
	return file, nil
}

// evict closes the idle file used longest ago. p.mu is held.
func (p *filePool) evict() bool {
	front := p.idle.Front()
	if front == nil {
		return false
	}
	victim := p.idle.Remove(front).(*pooledFile)
	delete(p.entries, victim.id)
	p.closed = errors.Join(p.closed, victim.file.Close())
	p.open--
	return true
}

func (p *filePool) release(id uint32) {
	p.mu.Lock()
	e := p.entries[id]
	e.place = p.idle.PushBack(e)
	p.mu.Unlock()
	p.freed.Signal()
}

func (p *filePool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.evict() {
	}
	return p.closed
}

// fdatasync makes the file's data and size durable, not its times.
func fdatasync(file *os.File) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var syncErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if syncErr = unix.Fdatasync(int(fd)); syncErr != unix.EINTR {
				return
			}
		}
	})
	return errors.Join(err, syncErr)
}
