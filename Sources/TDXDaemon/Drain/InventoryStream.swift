internal import ControlInterface
internal import LinuxSystem
internal import Synchronization
internal import Varlink

/// One client's inventory, answer by answer as the client reads them: what is not sent yet is with the holders, and no
/// thread waits for the client.
final class InventoryStream: Sendable {
    private struct Open {
        var id: String
        var file: PrivateRangeFile
        var cursor: PrivateRangeFile.Cursor
        var left: Int
    }

    private struct State {
        /// TDs that are still to come.
        var ids: ArraySlice<String>
        var total: InventoryTotal
        /// The TD whose ranges are being sent.
        var open: Open?
        /// How long holders were waited for that gave no ranges.
        var waitedInVain = Duration.zero
    }

    /// Once so long was waited in vain, further holders have `shortPatience` to give their ranges.
    private static let vainLimit = Duration.seconds(30)
    private static let shortPatience = Duration.seconds(1)

    private let manager: Manager
    private let call: VarlinkCall
    private let wantsRanges: Bool
    private let state: Mutex<State>
    private let onEnd: @Sendable () -> Void

    /// - Parameter onEnd: called once, also when the client leaves.
    init(_ manager: Manager, _ call: VarlinkCall, wantsRanges: Bool, onEnd: @escaping @Sendable () -> Void) {
        self.manager = manager
        self.call = call
        self.wantsRanges = wantsRanges
        self.onEnd = onEnd
        let (ids, backend) = manager.inventoryBase()
        state = Mutex(State(ids: ids[...], total: InventoryTotal(backend: backend)))
    }

    deinit { onEnd() }

    /// Gives the first answer from a thread of its client's share, and the further ones as the client takes them.
    func start(for beneficiary: Beneficiary) {
        guard !manager.inventories.submit(for: beneficiary, { self.advance(for: beneficiary) }) else { return }
        let reason = "too many inventories are being read"
        call.fail(ControlError.tryAgain(reason: reason).reply(on: .manager))
    }

    /// Gives the next answer, and the one after it once the client has taken that. Blocks for holders.
    private func advance(for beneficiary: Beneficiary) {
        guard let answer = state.withLock({ next(&$0) }) else { return }
        if let total = answer.total {
            return call.reply(call.wantsMore ? answer : ManagerInterface.Inventory.Reply(total: total))
        }
        call.replyContinues(answer) { [self] in
            manager.inventories.resume(for: beneficiary) { self.advance(for: beneficiary) }
        }
    }

    /// Nil when the client has left.
    private func next(_ state: inout State) -> ManagerInterface.Inventory.Reply? {
        var domains: [InventoryDomain] = []
        var ranges: [InventoryRanges] = []
        var room = ManagerInterface.Inventory.mostRanges
        while room > 0, domains.count < ManagerInterface.Inventory.mostDomains {
            guard !call.isCancelled else { return nil }
            if let open = state.open {
                let told = takeRanges(&state, of: open, atMost: room)
                room -= told.runs.count
                ranges.append(told)
                continue
            }
            guard let id = state.ids.popFirst() else {
                return ManagerInterface.Inventory.Reply(domains: domains, ranges: ranges, total: state.total)
            }
            let start = MonotonicInstant.now
            let patience = state.waitedInVain < Self.vainLimit ? nil : Self.shortPatience
            guard let found = manager.inventoried(id: id, wantsRanges: wantsRanges, patience: patience) else {
                continue
            }
            domains.append(found.domain)
            state.total.add(found.domain, wantsRanges: wantsRanges)
            if let file = found.ranges, file.count > 0, call.wantsMore {
                state.open = Open(id: id, file: file, cursor: file.cursor, left: file.count)
            }
            let waited = MonotonicInstant.now - start
            if wantsRanges, found.ranges == nil, waited > .milliseconds(100) {
                state.waitedInVain += waited
                // The client hears of what there is before the next one is waited for.
                break
            }
        }
        return ManagerInterface.Inventory.Reply(domains: domains, ranges: ranges)
    }

    private func takeRanges(_ state: inout State, of open: Open, atMost room: Int) -> InventoryRanges {
        var open = open
        var told = InventoryRanges(id: open.id, runs: [])
        do throws(PrivateRangeFlaw) {
            while told.runs.count < room, open.left > 0, let run = try open.cursor.next() {
                told.runs.append(run)
                open.left -= 1
            }
            state.open = open.left > 0 ? open : nil
        } catch {
            // The file cannot have changed: it was closed, because the TD has ended.
            told.cut = "the TD has ended meanwhile"
            state.open = nil
        }
        return told
    }
}
