import ControlInterface
import MemoryUnits
import TestSupport
import Testing

@testable import TDXDaemon

@Suite struct KeyLedgerTests {
    @Test func `ids are given from the lowest on and come back`() throws {
        var ledger = KeyLedger(first: KeyID(32), capacity: 3)
        #expect(try ledger.reserve(for: "a") == KeyID(32))
        #expect(try ledger.reserve(for: "b") == KeyID(33))
        #expect(ledger.giveBack(holder: "a") == KeyID(32))
        #expect(try ledger.reserve(for: "c") == KeyID(32))
        #expect(ledger.taken == 2)
    }

    @Test func `an exhausted pool refuses with its figures and changes nothing`() throws {
        var ledger = KeyLedger(first: KeyID(32), capacity: 2)
        _ = try ledger.reserve(for: "a")
        _ = try ledger.reserve(for: "b")
        let before = ledger.holdings
        #expect(refusal { _ = try ledger.reserve(for: "c") } == .noKeyAvailable(capacity: 2, inUse: 2))
        #expect(ledger.holdings == before)
    }

    @Test func `a draining id counts as taken until it is given back`() throws {
        var ledger = KeyLedger(first: KeyID(32), capacity: 1)
        _ = try ledger.reserve(for: "a")
        ledger.mark(.inUse, holder: "a")
        ledger.mark(.draining, holder: "a")
        #expect(ledger.count(.draining) == 1)
        #expect(refusal { _ = try ledger.reserve(for: "b") } == .noKeyAvailable(capacity: 1, inUse: 1))
        ledger.giveBack(holder: "a")
        #expect(try ledger.reserve(for: "b") == KeyID(32))
    }

    @Test func `an adopted id is not given again, and a contested one is told`() throws {
        var ledger = KeyLedger(first: KeyID(32), capacity: 3)
        #expect(ledger.adopt(KeyID(33), for: "old") == nil)
        #expect(ledger.adopt(KeyID(33), for: "old") == nil)
        #expect(ledger.adopt(KeyID(33), for: "other") == "old")
        #expect(try ledger.reserve(for: "a") == KeyID(32))
        #expect(try ledger.reserve(for: "b") == KeyID(34))
    }

    @Test func `an adopted id outside a smaller pool counts against it`() throws {
        var ledger = KeyLedger(first: KeyID(32), capacity: 1)
        #expect(ledger.adopt(KeyID(40), for: "old") == nil)
        #expect(refusal { _ = try ledger.reserve(for: "a") } == .noKeyAvailable(capacity: 1, inUse: 1))
        #expect(ledger.giveBack(holder: "old") == KeyID(40))
        #expect(try ledger.reserve(for: "a") == KeyID(32))
    }

    @Test func `giving back what nobody holds does nothing`() {
        var ledger = KeyLedger()
        #expect(ledger.giveBack(holder: "nobody") == nil)
        #expect(ledger.capacity == 16)
        #expect(ledger.first == KeyID(32))
    }

    @Test func `no two TDs ever hold one id, whatever the order`() throws {
        let seed: UInt64 = 0x7d0d_1234
        var random = SeededRandom(seed: seed)
        var ledger = KeyLedger(first: KeyID(32), capacity: 5)
        var held: [String: KeyID] = [:]
        for step in 0..<5_000 {
            let holder = "td\(random.next() % 9)"
            if let key = held[holder] {
                #expect(ledger.giveBack(holder: holder) == key, "seed \(seed), step \(step)")
                held[holder] = nil
            } else if held.count < 5 {
                let key = try ledger.reserve(for: holder)
                #expect(!held.values.contains(key), "seed \(seed), step \(step)")
                held[holder] = key
            } else {
                #expect(throws: ControlError.self) { try ledger.reserve(for: holder) }
            }
            ledger.checkInvariants()
        }
    }

    @Test func `a pool whose size is not known refuses nothing that the kernel could give`() throws {
        var ledger = KeyLedger(first: KeyID(32), capacity: 1)
        #expect(try ledger.reserve(for: "a") == KeyID(32))
        ledger.forgetCapacity()
        #expect(ledger.capacity == nil)
        for number in 1...100 {
            #expect(try ledger.reserve(for: "td\(number)") == KeyID(UInt16(32 + number)))
        }
        #expect(ledger.taken == 101)
    }
}
