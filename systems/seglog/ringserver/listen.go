package ringserver

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// listener is where clients come from.
type listener struct {
	address   string
	file      *os.File // a descriptor of ours, in blocking mode: io_uring fails a nonblocking accept at once
	closer    interface{ Close() error }
	single    bool // no multishot accept
	datagrams *datagrams
}

func listen(network, address string) (*listener, error) {
	if network == "udp" {
		return listenDatagram(address)
	}
	l, err := net.Listen(network, address)
	if err != nil {
		if errors.Is(err, unix.EADDRINUSE) {
			err = fmt.Errorf("%w (another server listens there, or left its socket file: choose another address or remove it)", err)
		}
		return nil, fmt.Errorf("ringserver: listen on %s %s: %w", network, address, err)
	}
	file, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ringserver: %w", err), l.Close())
	}
	_ = file.Fd() // sets blocking mode
	return &listener{address: l.Addr().String(), file: file, closer: l}, nil
}

func (l *listener) arm(s *server) {
	if l.datagrams != nil {
		l.datagrams.arm(s)
		return
	}
	if s.accepting {
		return
	}
	q := s.sqe()
	if l.single {
		q.Accept(int(l.file.Fd()))
	} else {
		q.AcceptMultishot(int(l.file.Fd()))
	}
	q.Data(tag(opAccept, 0))
	s.accepting = true
}

// disarm stops taking new connections and datagrams.
func (l *listener) disarm(s *server) {
	s.sqe().CancelFd(int(l.file.Fd()), false).Data(tag(opCancel, 0))
}

func (l *listener) close() error {
	return errors.Join(l.file.Close(), l.closer.Close())
}
