import LinuxSystem
import Synchronization
import Testing

@testable import Varlink

@Suite struct ConnectionPlacesTests {
    static let low = ClientShare(rank: 1, connections: 4, connectionsPerUser: 3, unreadBytesPerUser: 1 << 20)
    static let high = ClientShare(rank: 2, connections: 6, connectionsPerUser: 6, unreadBytesPerUser: 1 << 20)

    static func held(_ uids: [UInt32], rank: Int, idleSince: MonotonicInstant? = nil) -> [ConnectionPlaces.Held] {
        uids.enumerated().map { index, uid in
            .init(
                id: UInt64(uid) * 100 + UInt64(index), uid: uid, rank: rank, connections: rank == 1 ? 4 : 6,
                idleSince: idleSince)
        }
    }

    @Test func `clients of low rank never reach the places of a higher one`() {
        let busy = Self.held([1, 1, 2, 2], rank: 1)
        let low = ConnectionPlaces.decide(uid: 3, share: Self.low, total: 6, held: busy)
        #expect(low == .turnAway(limit: 4, perUser: false))
        let high = ConnectionPlaces.decide(uid: 0, share: Self.high, total: 6, held: busy)
        #expect(high == .admit)
    }

    @Test func `places of a higher rank that are taken are not given to a lower one`() {
        let high = ClientShare(rank: 2, connections: 5, connectionsPerUser: 5, unreadBytesPerUser: 1 << 20)
        let highs = (0..<5).map { ConnectionPlaces.Held(id: $0, uid: UInt32($0), rank: 2, connections: 5) }
        let low = ConnectionPlaces.decide(uid: 9, share: Self.low, total: 6, held: highs)
        #expect(low == .turnAway(limit: 4, perUser: false))
        #expect(
            ConnectionPlaces.decide(uid: 9, share: high, total: 6, held: highs) == .turnAway(limit: 5, perUser: false))
        let admin = ClientShare(rank: 3, connections: 6, connectionsPerUser: 6, unreadBytesPerUser: 1 << 20)
        #expect(ConnectionPlaces.decide(uid: 9, share: admin, total: 6, held: highs) == .admit)
    }

    @Test func `a user has its own limit, whatever is free`() {
        let own = Self.held([1, 1, 1], rank: 1)
        #expect(
            ConnectionPlaces.decide(uid: 1, share: Self.low, total: 6, held: own)
                == .turnAway(limit: 3, perUser: true))
    }

    @Test func `whoever has most gives an unused connection up to whoever has less`() {
        let idle = Self.held([1, 1, 1], rank: 1, idleSince: .now) + Self.held([2], rank: 1)
        guard case .replace(let id) = ConnectionPlaces.decide(uid: 3, share: Self.low, total: 6, held: idle) else {
            Issue.record("no connection gave way")
            return
        }
        #expect(idle.first { $0.id == id }?.uid == 1)
    }

    @Test func `a connection in use never gives way, and one of a higher rank neither`() {
        let busy = Self.held([1, 1, 1, 2], rank: 1)
        let decided = ConnectionPlaces.decide(uid: 3, share: Self.low, total: 6, held: busy)
        #expect(decided == .turnAway(limit: 4, perUser: false))
        let admins = Self.held([0, 0, 0, 0, 0, 0], rank: 2, idleSince: .now)
        let beside = ConnectionPlaces.decide(uid: 3, share: Self.low, total: 6, held: admins)
        #expect(beside == .turnAway(limit: 4, perUser: false))
    }

    @Test func `who has as many as the newcomer keeps them`() {
        let equal = Self.held([1, 2, 3, 4], rank: 1, idleSince: .now)
        let decided = ConnectionPlaces.decide(uid: 5, share: Self.low, total: 6, held: equal)
        #expect(decided == .turnAway(limit: 4, perUser: false))
    }
}

@Suite struct ClientShareTests {
    @Test func `a client without a share hears why before its first call meets a closed socket`() throws {
        let fixture = try ServerFixture(share: { _ in nil })
        let raw = try fixture.rawSocket()
        eventually { fixture.closed.withLock { $0.contains(.notAdmitted) } }
        // It only calls now: the server has answered and given it up already.
        #expect(raw.send(#"{"method":"io.example.Echo.Echo","parameters":{"text":"a"}}"# + "\0") > 0)
        #expect(raw.readMessage()?.contains("is not admitted") == true)
        #expect(raw.readMessage() == nil)
    }

    @Test func `an answered client that stays silent for its share's time is let go`() throws {
        let fixture = try ServerFixture(share: { _ in
            ClientShare(
                rank: 0, connections: 8, connectionsPerUser: 8, unreadBytesPerUser: 1 << 20,
                idleTimeout: .milliseconds(50))
        })
        let raw = try fixture.rawSocket()
        raw.send(#"{"method":"io.example.Echo.Echo","parameters":{"text":"a"}}"# + "\0")
        #expect(raw.readMessage()?.contains("\"a\"") == true)
        #expect(raw.readMessage() == nil)
        eventually { fixture.closed.withLock { $0.contains(.idle) } }
    }

    @Test func `answers that a user's clients leave unread are bounded over all of them`() throws {
        let fixture = try ServerFixture(share: { _ in
            ClientShare(rank: 0, connections: 64, connectionsPerUser: 64, unreadBytesPerUser: 1 << 20)
        })
        let text = String(repeating: "x", count: 700_000)
        let call = #"{"method":"io.example.Echo.Echo","parameters":{"text":""# + text + "\"}}\0"
        func ask() throws -> RawClient {
            let raw = try fixture.rawSocket()
            raw.sendAll(call)
            return raw
        }
        var deaf: [RawClient] = []
        for count in 1...3 {
            deaf.append(try ask())
            eventually { fixture.echoed.withLock { $0.count } == count }
        }
        // Each answer is told or refused whole; the first has room whatever its length.
        let told = deaf.map { $0.readMessage() ?? "" }
        #expect(told[0].count > 700_000)
        #expect(told.last?.contains("unread") == true, "\(told.map(\.count))")
        // What was read has made room again.
        #expect(try ask().readMessage()?.count == told[0].count)
    }
}
