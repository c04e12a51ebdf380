package netbed

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands and flags of uapi/linux/ethtool.h.
const (
	ethtoolSTSO   = 0x0000001f
	ethtoolSGRO   = 0x0000002c
	ethtoolSFlags = 0x00000026
	flagTxVLAN    = 1 << 7
	flagRxVLAN    = 1 << 8
)

type ethtoolValue struct {
	command uint32
	data    uint32
}

type interfaceRequest struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// plainPackets makes an interface of the calling thread's namespace carry packets
// as a wire would: VLAN tags in their bytes, where programs in the driver see them,
// one segment each. With GRO on, packets are worked on by NAPI also where no program
// is in the driver, and so by the thread of the end.
func plainPackets(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket for the interface's settings: %w", err)
	}
	defer unix.Close(fd)
	for _, v := range []ethtoolValue{{ethtoolSTSO, 0}, {ethtoolSFlags, 0}, {ethtoolSGRO, 1}} {
		request := interfaceRequest{data: unsafe.Pointer(&v)}
		copy(request.name[:unix.IFNAMSIZ-1], name)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
		if errno != 0 {
			return fmt.Errorf("ethtool command %#x: %w", v.command, errno)
		}
	}
	return nil
}
