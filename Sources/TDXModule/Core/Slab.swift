internal import Synchronization

/// Slots of one size in reserved address space, numbered from 1; a free list hands out the lowest numbers first.
///
/// Freed slots stay readable: a thread that looked a slot up before it was freed finds valid words, and finds out by
/// checking the page's metadata again.
final class Slab: @unchecked Sendable {
    private let memory: ReservedMemory
    let base: UnsafeMutableRawPointer
    let stride: Int
    let capacity: Int
    private let state = Mutex<(next: Int, free: [UInt32])>((1, []))

    init(stride: Int, capacity: Int) throws(PlatformError) {
        memory = try ReservedMemory(byteCount: stride * capacity)
        base = memory.base
        self.stride = stride
        self.capacity = capacity
    }

    var residentBytes: Int { memory.residentBytes() }

    /// A slot number, 1 ..< capacity.
    func allocate() -> Int {
        state.withLock { state in
            if let slot = state.free.popLast() { return Int(slot) }
            precondition(state.next < capacity, "the model holds at most \(capacity - 1) objects of a kind")
            state.next += 1
            return state.next - 1
        }
    }

    func free(_ slot: Int) {
        state.withLock { $0.free.append(UInt32(slot)) }
    }

    /// All slots that were ever handed out are below this.
    var highWater: Int { state.withLock { $0.next } }

    /// Slots in use.
    var used: Int { state.withLock { $0.next - 1 - $0.free.count } }
}
