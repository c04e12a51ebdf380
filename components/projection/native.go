package projection

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

const (
	stateMagic  = 0x5350584e // "NXPS"
	stateFormat = 1
)

// counts are the totals, as they are encoded.
type counts struct {
	time, units, refunded                             uint64
	placed, paid, shipped, cancelled, priced, refused uint32
}

// order is one of the newest orders.
type order struct {
	time                   uint64
	order, product, amount uint32
	status                 Kind
}

// Native is the guest's job done in Go, with the same states and encodings: what
// the sandbox is measured against. Its zero value is ready.
type Native struct {
	seq, revenue uint64
	counts       counts
	products     uint32 // slots in use
	orders       uint32
	newest       uint32 // ring position of the newest order
	product      [SlotsMax]uint32
	units        [SlotsMax]uint32
	over, price  [SlotsMax]uint32
	recent       [SlotsMax]order
}

var _ Folder = (*Native)(nil)

// Apply implements Folder.
func (n *Native) Apply(events []byte) (uint64, error) {
	if err := checkEvents(events); err != nil {
		return 0, err
	}
	for ; len(events) > 0; events = events[EventLen:] {
		n.fold(DecodeEvent(events))
		n.seq++
	}
	return n.seq, nil
}

func (n *Native) fold(e Event) {
	switch e.Kind {
	case Placed:
		n.place(e)
	case Paid:
		n.counts.paid++
		n.revenue += uint64(e.Amount)
		n.mark(e.Order, Paid)
	case Shipped:
		n.counts.shipped++
		n.mark(e.Order, Shipped)
	case Cancelled:
		n.counts.cancelled++
		n.counts.refunded += uint64(e.Amount)
		n.mark(e.Order, Cancelled)
	case Priced:
		n.counts.priced++
		if slot := slices.Index(n.product[:n.products], e.Product); slot >= 0 {
			n.price[slot] = e.Amount
		}
	default:
		n.counts.refused++
		return
	}
	n.counts.time = e.TimeMs
}

func (n *Native) place(e Event) {
	n.counts.placed++
	n.counts.units += uint64(e.Quantity)
	n.sell(e.Product, uint32(e.Quantity))
	if n.orders < SlotsMax {
		n.newest = n.orders
		n.orders++
	} else {
		n.newest = (n.newest + 1) % SlotsMax
	}
	n.recent[n.newest] = order{e.TimeMs, e.Order, e.Product, e.Amount, Placed}
}

// sell counts by the Space-Saving algorithm, see guest/projection.c.
func (n *Native) sell(product, quantity uint32) {
	slot := slices.Index(n.product[:n.products], product)
	if slot < 0 {
		if n.products < SlotsMax {
			slot = int(n.products)
			n.products++
		} else {
			slot = slices.Index(n.units[:], slices.Min(n.units[:]))
		}
		n.product[slot], n.over[slot], n.price[slot] = product, n.units[slot], 0
	}
	n.units[slot] = uint32(min(uint64(n.units[slot])+uint64(quantity), math.MaxUint32))
}

func (n *Native) mark(id uint32, status Kind) {
	for i := range n.recent[:n.orders] {
		if n.recent[i].order == id {
			n.recent[i].status = status
			return
		}
	}
}

// Encode implements Folder.
func (n *Native) Encode(dst []byte, view View) ([]byte, error) {
	if err := view.check(); err != nil {
		return dst, err
	}
	const (
		tableAt, tableLen    = 24, 40
		countsAt             = 40 // in the table
		topSlot, recentSlot  = 4, 8
		countsLen            = 48
		vtableAt, vtableSize = 8, 16
	)
	le := binary.LittleEndian
	start := len(dst)
	top, recent := min(view.Top, n.products), min(view.Recent, n.orders)
	vtable := [8]uint16{vtableSize, tableLen, 16, 24, 32}
	if view.Counts {
		vtable[1], vtable[5] = tableLen+countsLen, countsAt
	}
	if top > 0 {
		vtable[6] = topSlot
	}
	if recent > 0 {
		vtable[7] = recentSlot
	}
	dst = append(le.AppendUint32(dst, tableAt), "NXPJ"...)
	for _, v := range vtable {
		dst = le.AppendUint16(dst, v)
	}
	dst = le.AppendUint32(dst, tableAt-vtableAt)
	dst = append(dst, make([]byte, 12)...) // the vectors' offsets, padding
	for _, v := range []uint64{view.Version, n.seq, n.revenue} {
		dst = le.AppendUint64(dst, v)
	}
	if view.Counts {
		dst = n.appendCounts(dst)
	}
	if top > 0 {
		at := start + tableAt + topSlot
		le.PutUint32(dst[at:], uint32(len(dst)-at))
		dst = n.appendTop(dst, int(top))
	}
	if recent > 0 {
		if (len(dst)-start)%8 != 4 {
			dst = le.AppendUint32(dst, 0)
		}
		at := start + tableAt + recentSlot
		le.PutUint32(dst[at:], uint32(len(dst)-at))
		dst = n.appendRecent(le.AppendUint32(dst, recent), recent)
	}
	if (len(dst)-start)%8 != 0 {
		dst = le.AppendUint32(dst, 0)
	}
	return dst, nil
}

func (n *Native) appendCounts(dst []byte) []byte {
	c := &n.counts
	for _, v := range []uint64{c.time, c.units, c.refunded} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	for _, v := range []uint32{c.placed, c.paid, c.shipped, c.cancelled, c.priced, c.refused} {
		dst = binary.LittleEndian.AppendUint32(dst, v)
	}
	return dst
}

func (n *Native) appendTop(dst []byte, top int) []byte {
	ranked := make([]int, n.products)
	for i := range ranked {
		ranked[i] = i
	}
	slices.SortFunc(ranked, func(a, b int) int {
		if n.units[a] != n.units[b] {
			return -compare(n.units[a], n.units[b])
		}
		return compare(n.product[a], n.product[b])
	})
	dst = binary.LittleEndian.AppendUint32(dst, uint32(top))
	for _, slot := range ranked[:top] {
		for _, v := range []uint32{n.product[slot], n.units[slot], n.over[slot], n.price[slot]} {
			dst = binary.LittleEndian.AppendUint32(dst, v)
		}
	}
	return dst
}

func compare(a, b uint32) int {
	if a < b {
		return -1
	}
	return 1
}

// appendRecent appends the newest orders, newest first.
func (n *Native) appendRecent(dst []byte, count uint32) []byte {
	for i := range count {
		dst = n.recent[(n.newest+SlotsMax-i)%SlotsMax].append(dst)
	}
	return dst
}

func (o order) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, o.time)
	for _, v := range []uint32{o.order, o.product, o.amount, uint32(o.status)} {
		dst = binary.LittleEndian.AppendUint32(dst, v)
	}
	return dst
}

// Save implements Folder.
func (n *Native) Save(dst []byte) ([]byte, error) {
	le := binary.LittleEndian
	dst = le.AppendUint32(le.AppendUint32(dst, stateMagic), stateFormat)
	dst = le.AppendUint64(le.AppendUint64(dst, n.seq), n.revenue)
	dst = n.appendCounts(dst)
	for _, v := range []uint32{n.products, n.orders, n.newest, 0} {
		dst = le.AppendUint32(dst, v)
	}
	dst = append(dst, make([]byte, 8)...) // the lists are aligned to 16 bytes
	for _, list := range []*[SlotsMax]uint32{&n.product, &n.units, &n.over, &n.price} {
		for _, v := range list {
			dst = le.AppendUint32(dst, v)
		}
	}
	for _, o := range n.recent {
		dst = le.AppendUint32(dst, o.order)
	}
	for _, o := range n.recent {
		dst = o.append(dst)
	}
	return dst, nil
}

// Restore implements Folder.
func (n *Native) Restore(state []byte) error {
	le := binary.LittleEndian
	if len(state) != StateLen || le.Uint32(state) != stateMagic || le.Uint32(state[4:]) != stateFormat {
		return fmt.Errorf("%w: %d bytes", ErrState, len(state))
	}
	var r Native
	r.seq, r.revenue = le.Uint64(state[8:]), le.Uint64(state[16:])
	c := &r.counts
	c.time, c.units, c.refunded = le.Uint64(state[24:]), le.Uint64(state[32:]), le.Uint64(state[40:])
	for i, v := range []*uint32{&c.placed, &c.paid, &c.shipped, &c.cancelled, &c.priced, &c.refused, &r.products, &r.orders, &r.newest} {
		*v = le.Uint32(state[48+4*i:])
	}
	if r.products > SlotsMax || r.orders > SlotsMax || r.newest >= SlotsMax {
		return fmt.Errorf("%w: more than %d slots", ErrState, SlotsMax)
	}
	at := state[96:]
	for _, list := range []*[SlotsMax]uint32{&r.product, &r.units, &r.over, &r.price} {
		for i := range list {
			list[i] = le.Uint32(at)
			at = at[4:]
		}
	}
	at = at[4*SlotsMax:] // the orders' ids once more
	for i := range r.recent {
		r.recent[i] = order{le.Uint64(at), le.Uint32(at[8:]), le.Uint32(at[12:]), le.Uint32(at[16:]), Kind(at[20])}
		at = at[24:]
	}
	*n = r
	return nil
}

// Close implements Folder.
func (n *Native) Close() error { return nil }
