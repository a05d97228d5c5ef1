internal import ControlInterface
internal import LinuxSystem
internal import Logging
internal import ServiceSupport
internal import Synchronization
internal import Varlink

/// io.tdxd.Manager on the wire: who may call, what came, and which thread does it. Handlers run on the event loop and
/// only decide.
final class ManagerService: Sendable {
    private let manager: Manager
    private let refusals = Mutex(RefusalLog())
    /// Inventories that are being read, by user.
    private let readers = Mutex<[UInt32: Int]>([:])
    private static let inventoriesPerUser = 4

    init(_ manager: Manager) { self.manager = manager }

    /// Every method by name, with the check of who calls.
    var handlers: [String: VarlinkServer.Handler] {
        Dictionary(
            uniqueKeysWithValues: ManagerInterface.Method.allCases.map { method in
                let row = method.row
                return (
                    method.rawValue,
                    { [self] call in
                        guard let caller = permitted(call, row.role) else { return }
                        do throws(VarlinkErrorReply) { try row.take(self, call, caller) } catch { call.fail(error) }
                    }
                )
            })
    }

    // MARK: Calls that begin on the loop

    func check(_ request: ManagerCall<ManagerInterface.Check>) {
        manager.check { answer in
            switch answer {
            case .success(let report): request.call.reply(report)
            case .failure(let error): request.call.fail(error.reply(on: .manager))
            }
        }
    }

    func mapChanges(_ request: ManagerCall<ManagerInterface.MapChanges>) {
        let wait = (request.waitMilliseconds ?? .standard).duration
        submit(request, to: .map) { [self] _ throws(ControlError) in
            follow(request.call, request.caller, request.name, since: request.since, until: .now + wait)
        }
    }

    /// Answers with what there is, or waits without a thread until there may be something, and looks again.
    private func follow(
        _ call: VarlinkCall, _ caller: Caller, _ name: TrustDomainName, since: ChangeNumber?,
        until deadline: MonotonicInstant
    ) {
        guard !call.isCancelled else { return }
        do throws(ControlError) {
            let (reply, holder) = try manager.mapChanges(name, since: since)
            guard let since, reply.runs.isEmpty, !reply.snapshot, deadline > .now else { return call.reply(reply) }
            let silence = manager.configuration.deadlines.holderReply
            manager.loop.perform { [self] in
                manager.mapWatches.wait(on: holder, since: since, until: deadline, silence: silence, for: call) {
                    [self] wake in
                    guard wake == .look else { return call.reply(reply) }
                    // It has its place already.
                    manager.maps.resume(for: caller.beneficiary) { [self] in
                        follow(call, caller, name, since: since, until: deadline)
                    }
                }
            }
        } catch {
            call.fail(error.reply(on: .manager))
        }
    }

    /// Each is a place in memory for as long as its client takes to read it.
    func inventory(_ request: ManagerCall<ManagerInterface.Inventory>) throws(VarlinkErrorReply) {
        let uid = request.call.peer.uid
        let isAdmitted = readers.withLock { readers in
            guard readers[uid, default: 0] < Self.inventoriesPerUser else { return false }
            readers[uid, default: 0] += 1
            return true
        }
        guard isAdmitted else {
            let reason = "user \(uid) reads \(Self.inventoriesPerUser) inventories already"
            throw ControlError.tryAgain(reason: reason).reply(on: .manager)
        }
        let stream = InventoryStream(manager, request.call, wantsRanges: request.ranges ?? false) { [weak self] in
            self?.readers.withLock { readers in
                readers[uid, default: 1] -= 1
                if readers[uid] == 0 { readers[uid] = nil }
            }
        }
        stream.start(for: request.caller.beneficiary)
    }

    func convert(_ request: ManagerCall<ManagerInterface.Convert>) throws(VarlinkErrorReply) {
        do throws(ControlError) {
            // Each thread that a short one goes through costs it more than the conversion does.
            let isBegun = try manager.convertBriefly(request.parameters, as: request.principal) { [manager] result in
                switch result {
                case .success(let reply):
                    request.call.reply(reply)
                    manager.converted(reply)
                case .failure(let error): request.call.fail(error.reply(on: .manager))
                }
            }
            if isBegun { return }
        } catch {
            throw error.reply(on: .manager)
        }
        submit(request, to: .work) { manager throws(ControlError) in
            // Who asked for one answer alone need not be there for the work to be wanted.
            let isLeft = { request.call.wantsMore && request.call.isCancelled }
            var meter = ProgressMeter()
            let reply = try manager.convert(request.parameters, as: request.principal, isLeft: isLeft) { soFar in
                var soFar = soFar
                soFar.progress = soFar.progress.map { meter.completed($0) }
                request.continues(with: soFar)
            }
            request.call.reply(reply)
            manager.converted(reply)
        }
    }

    // MARK: Answering

    /// Hands a call to a thread of the caller's share, or refuses it at once.
    func submit<Method: ControlMethod>(
        _ request: ManagerCall<Method>, to pool: CallPool,
        _ body: @escaping @Sendable (Manager) throws(ControlError) -> Void
    ) {
        let isAccepted = manager.pool(pool).submit(for: request.caller.beneficiary) { [manager] in
            do throws(ControlError) { try body(manager) } catch { request.call.fail(error.reply(on: .manager)) }
        }
        guard !isAccepted else { return }
        request.call.fail(ControlError.tryAgain(reason: request.caller.tooManyCalls).reply(on: .manager))
    }

    /// Who calls, and whose TDs it may touch; nil, with the call failed and logged, where it may not be made.
    private func permitted(_ call: VarlinkCall, _ role: Role) -> Caller? {
        let policy = PeerPolicy(manager.configuration.access, ownUID: manager.ownUID)
        let method = call.method.split(separator: ".").last.map { String($0) } ?? call.method
        do throws(ControlError) {
            return try policy.check(
                method, needs: role, uid: call.peer.uid, groups: [call.peer.gid] + call.peer.groups)
        } catch {
            tellRefused(method, call.peer)
            call.fail(error.reply(on: .manager))
            return nil
        }
    }

    /// Logs a refusal, unless there were many of this user's just now.
    func tellRefused(_ what: String, _ peer: PeerCredentials) {
        let unlogged = refusals.withLock { log in
            log.shouldLog(uid: peer.uid, now: Int64(clamping: MonotonicInstant.now.nanoseconds))
        }
        guard let unlogged else { return }
        manager.log.warning(
            "refused a call",
            metadata: [
                "method": "\(what)", "uid": "\(peer.uid)", "pid": "\(peer.pid)",
                "program": "\(peer.programName ?? "unknown")", "unlogged": "\(unlogged)",
            ])
    }
}
