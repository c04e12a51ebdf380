package projection

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

const (
	stateMagic  = 0x5350584e // "NXPS"
	stateFormat = 1
)

// Native is the guest's job done in Go, with the same states and encodings: what
// the sandbox is measured against. Its zero value is ready.
type Native struct {
	seq, revenue uint64
	counts       Counts
	products     uint32 // slots in use
	orders       uint32
	newest       uint32 // ring position of the newest order
	product      [SlotsMax]uint32
	units        [SlotsMax]uint32
	over, price  [SlotsMax]uint32
	recent       [SlotsMax]Order
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
		n.counts.Paid++
		n.revenue += uint64(e.Amount)
		n.mark(e.Order, Paid)
	case Shipped:
		n.counts.Shipped++
		n.mark(e.Order, Shipped)
	case Cancelled:
		n.counts.Cancelled++
		n.counts.Refunded += uint64(e.Amount)
		n.mark(e.Order, Cancelled)
	case Priced:
		n.counts.Priced++
		if slot := slices.Index(n.product[:n.products], e.Product); slot >= 0 {
			n.price[slot] = e.Amount
		}
	default:
		n.counts.Refused++
		return
	}
	n.counts.TimeMs = e.TimeMs
}

func (n *Native) place(e Event) {
	n.counts.Placed++
	n.counts.Units += uint64(e.Quantity)
	n.sell(e.Product, uint32(e.Quantity))
	if n.orders < SlotsMax {
		n.newest = n.orders
		n.orders++
	} else {
		n.newest = (n.newest + 1) % SlotsMax
	}
	n.recent[n.newest] = Order{e.TimeMs, e.Order, e.Product, e.Amount, Placed}
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
		if n.recent[i].Order == id {
			n.recent[i].Status = status
			return
		}
	}
}

// Encode implements Folder.
func (n *Native) Encode(dst []byte, view View) ([]byte, error) {
	if err := view.check(); err != nil {
		return dst, err
	}
	c := Contents{Version: view.Version, Seq: n.seq, Revenue: n.revenue, Top: n.top(int(min(view.Top, n.products)))}
	if view.Counts {
		c.Counts = &n.counts
	}
	for i := range min(view.Recent, n.orders) {
		c.Recent = append(c.Recent, n.recent[(n.newest+SlotsMax-i)%SlotsMax])
	}
	return c.Append(dst), nil
}

// top returns the count best selling products.
func (n *Native) top(count int) []Product {
	if count == 0 {
		return nil
	}
	ranked := make([]Product, n.products)
	for i := range ranked {
		ranked[i] = Product{n.product[i], n.units[i], n.over[i], n.price[i]}
	}
	slices.SortFunc(ranked, func(a, b Product) int {
		return cmp.Or(cmp.Compare(b.Units, a.Units), cmp.Compare(a.Product, b.Product))
	})
	return ranked[:count]
}

// Save implements Folder.
func (n *Native) Save(dst []byte) ([]byte, error) {
	le := binary.LittleEndian
	dst = le.AppendUint32(le.AppendUint32(dst, stateMagic), stateFormat)
	dst = le.AppendUint64(le.AppendUint64(dst, n.seq), n.revenue)
	dst = n.counts.append(dst)
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
		dst = le.AppendUint32(dst, o.Order)
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
	c.TimeMs, c.Units, c.Refunded = le.Uint64(state[24:]), le.Uint64(state[32:]), le.Uint64(state[40:])
	for i, v := range []*uint32{&c.Placed, &c.Paid, &c.Shipped, &c.Cancelled, &c.Priced, &c.Refused, &r.products, &r.orders, &r.newest} {
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
		r.recent[i] = Order{le.Uint64(at), le.Uint32(at[8:]), le.Uint32(at[12:]), le.Uint32(at[16:]), Kind(at[20])}
		at = at[24:]
	}
	*n = r
	return nil
}

// Close implements Folder.
func (n *Native) Close() error { return nil }
