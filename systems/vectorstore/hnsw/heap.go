package hnsw

// item is a slot and the key that a heap orders by.
type item struct {
	key  float32
	slot uint32
}

// less orders by key; equal keys by slot, so that results don't depend on the
// order in which they were found.
func (a item) less(b item) bool { return a.key < b.key || a.key == b.key && a.slot < b.slot }

// heap has the item of the lowest key first. Its own, since container/heap
// calls every comparison through an interface.
type heap []item

func (h *heap) push(x item) {
	*h = append(*h, x)
	a, i := *h, len(*h)-1
	for i > 0 {
		parent := (i - 1) / 2
		if !x.less(a[parent]) {
			break
		}
		a[i] = a[parent]
		i = parent
	}
	a[i] = x
}

func (h *heap) pop() item {
	a := *h
	first, last := a[0], a[len(a)-1]
	*h = a[:len(a)-1]
	if len(*h) > 0 {
		h.replaceFirst(last)
	}
	return first
}

// replaceFirst is pop and push in one.
func (h *heap) replaceFirst(x item) {
	a, i := *h, 0
	for {
		child := 2*i + 1
		if child >= len(a) {
			break
		}
		if right := child + 1; right < len(a) && a[right].less(a[child]) {
			child = right
		}
		if !a[child].less(x) {
			break
		}
		a[i] = a[child]
		i = child
	}
	a[i] = x
}
