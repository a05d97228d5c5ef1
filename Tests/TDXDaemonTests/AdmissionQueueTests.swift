import ControlInterface
import Testing

@testable import TDXDaemon

@Suite struct AdmissionQueueTests {
    private static func isFull(_ queue: inout AdmissionQueue, _ uid: UInt32?) -> Bool {
        guard case .limitReached(.waitingCreations, 1, 0, _)? = refusal({ _ = try queue.enter(for: uid) }) else {
            return false
        }
        return true
    }

    @Test func `creations are tried in the order in which they came`() throws {
        var queue = AdmissionQueue()
        let first = try queue.enter(for: 1000)
        let second = try queue.enter()
        #expect(queue.position(of: first) == 0 && queue.position(of: second) == 1)
        queue.leave(first)
        #expect(queue.position(of: second) == 0)
    }

    @Test func `one user takes its share, all users together theirs, and root finds a place`() throws {
        var queue = AdmissionQueue()
        for uid in 1000..<1003 as Range<UInt32> {
            for _ in 0..<AdmissionQueue.limitPerUser { _ = try queue.enter(for: uid) }
            #expect(Self.isFull(&queue, uid))
        }
        #expect(Self.isFull(&queue, 1003))
        for _ in AdmissionQueue.limitOfUsers..<AdmissionQueue.limit { _ = try queue.enter() }
        #expect(Self.isFull(&queue, nil))
    }
}
