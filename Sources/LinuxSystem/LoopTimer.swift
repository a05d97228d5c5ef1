/// A timer of an `EventLoop`. It belongs to the loop's thread.
public final class LoopTimer {
    fileprivate var deadline: MonotonicInstant
    fileprivate let interval: Duration?
    private var callback: (() -> Void)?
    fileprivate let sequence: UInt64

    fileprivate init(deadline: MonotonicInstant, interval: Duration?, sequence: UInt64, callback: @escaping () -> Void)
    {
        self.deadline = deadline
        self.interval = interval
        self.sequence = sequence
        self.callback = callback
    }

    /// The callback is not called again.
    public func cancel() { callback = nil }

    public var isCancelled: Bool { callback == nil }

    func fire() { callback?() }
}

/// Timers by deadline: a binary heap. Cancelled ones stay until their time comes or until they are the larger part.
struct TimerQueue {
    private var heap: [LoopTimer] = []
    private var nextSequence: UInt64 = 0

    /// - Complexity: O(log n)
    mutating func add(at deadline: MonotonicInstant, every interval: Duration?, _ callback: @escaping () -> Void)
        -> LoopTimer
    {
        let timer = LoopTimer(deadline: deadline, interval: interval, sequence: nextSequence, callback: callback)
        nextSequence += 1
        insert(timer)
        return timer
    }

    /// When the loop must wake up; nil when no timer is set.
    var nextDeadline: MonotonicInstant? { heap.first?.deadline }

    var count: Int { heap.count }

    /// Takes every timer whose time has come, the earliest first. Repeating ones are set anew.
    mutating func takeDue(at now: MonotonicInstant) -> [LoopTimer] {
        var due: [LoopTimer] = []
        while let first = heap.first, first.deadline <= now { due.append(removeFirst()) }
        for timer in due {
            guard let interval = timer.interval, !timer.isCancelled else { continue }
            timer.deadline = now + interval
            insert(timer)
        }
        return due
    }

    private mutating func insert(_ timer: LoopTimer) {
        if heap.count >= 64, heap.count(where: \.isCancelled) * 2 > heap.count, heap.count == heap.capacity {
            heap.removeAll(where: \.isCancelled)
            for index in stride(from: heap.count / 2, through: 0, by: -1) { siftDown(from: index) }
        }
        heap.append(timer)
        var child = heap.count - 1
        while child > 0, isBefore(child, (child - 1) / 2) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private mutating func removeFirst() -> LoopTimer {
        heap.swapAt(0, heap.count - 1)
        let first = heap.removeLast()
        siftDown(from: 0)
        return first
    }

    private mutating func siftDown(from start: Int) {
        var parent = start
        while true {
            var smallest = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && isBefore(child, smallest) {
                smallest = child
            }
            guard smallest != parent else { return }
            heap.swapAt(parent, smallest)
            parent = smallest
        }
    }

    private func isBefore(_ a: Int, _ b: Int) -> Bool {
        (heap[a].deadline, heap[a].sequence) < (heap[b].deadline, heap[b].sequence)
    }
}
