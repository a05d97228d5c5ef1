internal import ControlInterface
internal import DomainEnd
internal import FoundationEssentials
internal import HolderLaunch
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization

extension Manager {
    /// Longest that List and Show wait for one holder, and List for all of them.
    private static let lookPatience = Duration.seconds(1)
    private static let listPatience = Duration.seconds(2)

    // MARK: List and Show

    /// Every TD with its live figures. Blocks for at most `listPatience` and a little.
    func list() -> [TrustDomain] {
        let (domains, holders, backend) = core.withLock { core in
            (core.registry.sorted, core.holders, Self.expectedBackend(core))
        }
        let deadline = MonotonicInstant.now + Self.listPatience
        return domains.map { domain in
            let left = deadline - .now
            guard left > .zero else {
                return domain.report(remark: "other holders took too long to answer", fallbackBackend: backend)
            }
            return report(domain, holders[domain.record.id], backend, timeout: min(left, Self.lookPatience))
        }
    }

    /// Every TD with its pages by state as they are now, read from where holders publish them; those that do not are asked.
    /// Blocks for those alone.
    /// - Returns: with the ids of running TDs whose figures are of this moment.
    func pagesNow() -> (domains: [TrustDomain], answered: Set<String>) {
        let (domains, holders, backend) = core.withLock { core in
            (core.registry.sorted, core.holders, Self.expectedBackend(core))
        }
        let deadline = MonotonicInstant.now + Self.listPatience
        var answered: Set<String> = []
        let reports = domains.map { domain -> TrustDomain in
            guard domain.state == .runnable, let holder = holders[domain.record.id] else {
                return domain.report(fallbackBackend: backend)
            }
            if let counts = holder.publishedPages {
                answered.insert(domain.record.id)
                return domain.report(fallbackBackend: backend).with(counts)
            }
            let left = deadline - .now
            guard left > .zero else { return domain.report(fallbackBackend: backend) }
            let told = report(domain, holder, backend, timeout: min(left, Self.lookPatience))
            // A remark beside the figures marks them as old.
            if told.state == .runnable, told.reason == nil { answered.insert(told.id) }
            return told
        }
        return (reports, answered)
    }

    func show(_ name: TrustDomainName) throws(ControlError) -> TrustDomain {
        let (domain, holder, backend) = try find(name)
        return report(domain, holder, backend, timeout: Self.lookPatience)
    }

    /// Asks the holder; one that does not answer is shown as it was last known, and why.
    private func report(
        _ domain: Registry.Domain, _ holder: LiveHolder?, _ backend: Backend, timeout: Duration
    ) -> TrustDomain {
        guard domain.state == .runnable || domain.end.stage == .held, let holder else {
            return domain.report(fallbackBackend: backend)
        }
        do throws(ControlError) {
            let description = try holder.figures(timeout: timeout)
            if holder.backing == nil { adoptBacking(of: holder, description) }
            if domain.state == .runnable { adoptPages(of: holder) }
            var figures = TrustDomain(description, record: domain.record)
            let state = core.withLock { core in
                core.registry.refresh(id: domain.record.id, figures: figures)
                return core.registry[domain.record.id]?.state
            }
            // It may have ended or been stopped while its holder answered.
            if let state, figures.state == .runnable { figures.state = state }
            if figures.state == .draining { figures.reason = domain.reason }
            return figures
        } catch {
            let now = core.withLock { $0.registry[domain.record.id] } ?? domain
            let why: String
            if case .holderFailed(_, let reason) = error { why = reason } else { why = "\(error)" }
            guard now.state == .runnable else { return now.report(fallbackBackend: backend) }
            guard let counts = holder.publishedPages else {
                return now.report(
                    remark: "last known figures: its holder does not answer (\(why))", fallbackBackend: backend)
            }
            return now.report(
                remark: "resident memory as last known: its holder does not answer (\(why))", fallbackBackend: backend
            ).with(counts)
        }
    }

    private func find(_ name: TrustDomainName) throws(ControlError) -> (Registry.Domain, LiveHolder?, Backend) {
        try core.withLock {
            (core: inout sending Core) throws(ControlError) -> (Registry.Domain, LiveHolder?, Backend) in
            let domain = try core.registry.find(name: name)
            return (domain, core.holders[domain.record.id], Self.expectedBackend(core))
        }
    }

    func findRunnable(
        _ name: TrustDomainName, _ operation: String, as principal: Principal = .admin
    ) throws(ControlError) -> (Registry.Domain, LiveHolder) {
        let (domain, holder, _) = try find(name)
        try principal.check(domain.record, operation)
        guard domain.state == .runnable, let holder else {
            throw .wrongState(name: name.rawValue, state: domain.state.rawValue, operation: operation)
        }
        return (domain, holder)
    }

    // MARK: Map and Convert

    func map(_ name: TrustDomainName) throws(ControlError) -> ManagerInterface.Map.Reply {
        let (domain, holder) = try findRunnable(name, "map")
        let map = try holder.link.call(HolderInterface.Map.self, within: configuration.deadlines.holderReply)
        return .init(name: name.rawValue, backend: domain.record.backend ?? .memfd, runs: map.runs)
    }

    /// What has changed of a map by now; `ManagerInterface.MapChanges`. Waits for nothing but the holder's answer.
    func mapChanges(
        _ name: TrustDomainName, since: ChangeNumber?
    ) throws(ControlError) -> (ManagerInterface.MapChanges.Reply, LiveHolder) {
        let (domain, holder) = try findRunnable(name, "map")
        let changes = try holder.link.call(
            HolderInterface.MapChanges.self, .init(since: since, waitMilliseconds: ChangeWait(unchecked: 0)),
            within: configuration.deadlines.holderReply)
        return (.init(name: name.rawValue, backend: domain.record.backend ?? .memfd, changes), holder)
    }

    /// How the TD's conversions went; `ManagerInterface.Conversions`.
    func conversions(
        _ name: TrustDomainName, last: ConversionCount
    ) throws(ControlError) -> ManagerInterface.Conversions.Reply {
        let (domain, holder) = try findRunnable(name, "conversions")
        let found = try holder.link.call(
            HolderInterface.Conversions.self, .init(last: last), within: configuration.deadlines.holderReply)
        return ManagerInterface.Conversions.Reply(name: name.rawValue, backend: domain.record.backend ?? .memfd, found)
    }

    /// - Parameters:
    ///   - isLeft: the client no longer wants the rest of a long one; asked now and then.
    ///   - progress: called now and then, of a long one.
    func convert(
        _ request: ManagerInterface.Convert.Parameters, as principal: Principal = .admin,
        isLeft: () -> Bool = { false }, progress: (ManagerInterface.Convert.Reply) -> Void = { _ in }
    ) throws(ControlError) -> ManagerInterface.Convert.Reply {
        let (domain, holder) = try findConvertible(request, as: principal)
        let answer = try holder.link.convert(.init(request), silence: conversionSilence, isLeft: isLeft) {
            progress(.init(request, of: domain, $0))
        }
        return .init(request, of: domain, answer)
    }

    private func findConvertible(
        _ request: ManagerInterface.Convert.Parameters, as principal: Principal
    ) throws(ControlError) -> (Registry.Domain, LiveHolder) {
        _ = try request.range()
        let found = try findRunnable(request.name, "convert", as: principal)
        try refuseIfAttached(found.0.record, "convert")
        return found
    }

    /// As `convert`, on the event loop, which waits for the answer beside everything else.
    ///
    /// - Parameter then: called once on the loop, unless this returned false or threw.
    /// - Returns: false for what a thread has to do: a long one, or one that needs a connection to be made.
    func convertBriefly(
        _ request: ManagerInterface.Convert.Parameters, as principal: Principal,
        then: @escaping (Result<ManagerInterface.Convert.Reply, ControlError>) -> Void
    ) throws(ControlError) -> Bool {
        guard request.bytes.size <= .mebibytes(2) else { return false }
        let (domain, holder) = try findConvertible(request, as: principal)
        forwarded.add(1, ordering: .relaxed)
        let isAsked = holder.link.convert(.init(request), silence: conversionSilence, on: loop) {
            [self] result in
            forwarded.subtract(1, ordering: .relaxed)
            then(result.map { .init(request, of: domain, $0) })
        }
        if !isAsked { forwarded.subtract(1, ordering: .relaxed) }
        return isAsked
    }

    /// A chunk takes its time, page by page on hardware; the holder is given it as it is for a build.
    private var conversionSilence: Duration {
        let deadlines = configuration.deadlines
        return max(deadlines.holderReply, deadlines.build)
    }

    /// Logs a conversion that has been answered. Returns at once; from any thread.
    func converted(_ reply: ManagerInterface.Convert.Reply) {
        lines.add { [log] in
            log.info(
                "converted memory",
                metadata: [
                    "td": "\(reply.name)", "gpa": "\(GuestPhysicalAddress(reply.gpa))", "bytes": "\(reply.bytes)",
                    "to": "\(reply.to.rawValue)", "changed_bytes": "\(reply.changedBytes)",
                ])
        }
    }

    // MARK: Verify

    /// Finds what the host pays for twice, and frees it where that is asked for.
    func verify(
        _ name: TrustDomainName, reclaim: Bool, as principal: Principal = .admin
    ) throws(ControlError) -> ManagerInterface.Verify.Reply {
        let (domain, holder) = try findRunnable(name, "verify", as: principal)
        if reclaim { try refuseIfAttached(domain.record, "reclaim") }
        // Every backing file is counted through: it is given the time of other long work.
        let timeout = max(configuration.deadlines.holderReply, configuration.deadlines.build)
        let found = try holder.link.call(HolderInterface.Verify.self, .init(reclaim: reclaim), within: timeout)
        if found.wastedBytes > 0 {
            log.notice(
                reclaim ? "freed double-resident memory" : "memory is double-resident",
                metadata: [
                    "td": "\(name)", "bytes": "\(found.wastedBytes)", "ranges": "\(found.ranges.count)",
                ])
        }
        return ManagerInterface.Verify.Reply(
            name: name.rawValue, backend: domain.record.backend ?? .memfd, reclaimed: reclaim, found)
    }

    // MARK: Check and SelfTest

    /// What this host offers: read now, or a moment ago for another client. From any thread.
    func check(then: @escaping @Sendable (SharedProbe.Answer) -> Void) {
        probe.ask(
            start: { [workers] job in workers.submit(job) },
            run: { [self] in
                do throws(ControlError) { return .success(try check()) } catch { return .failure(error) }
            }, then: then)
    }

    /// What this host offers, as a child reads it.
    func check() throws(ControlError) -> HostReport {
        let result = try run("probe", { .probe($0) })
        do {
            let report = try JSONDecoder().decode(HostReport.self, from: Data(result.output))
            core.withLock { $0.found(report.backend) }
            return report
        } catch {
            throw .holderFailed(name: "probe", reason: "\(result.ending), and its report is not understood: \(error)")
        }
    }

    /// Runs the self-test in a child, which prints a step a line.
    /// - Throws: `ControlError.tryAgain` while another one is under way.
    func selfTest(step: (SelfTestStep) -> Void) throws(ControlError) -> ManagerInterface.SelfTest.Reply {
        guard !isSelfTesting.exchange(true, ordering: .acquiringAndReleasing) else {
            throw .tryAgain(reason: "a self-test is under way already")
        }
        defer { isSelfTesting.store(false, ordering: .releasing) }
        let known = core.withLock { $0.backend }
        let backend = if let known { known } else { try check().backend }
        var steps: [SelfTestStep] = []
        var flaw: String?
        let result = try run("selftest", { .selfTest($0) }) { line in
            do {
                let found = try JSONDecoder().decode(SelfTestStep.self, from: Data(line))
                steps.append(found)
                step(found)
            } catch {
                flaw = flaw ?? "\(error)"
            }
        }
        if let flaw {
            throw .holderFailed(name: "selftest", reason: "\(result.ending), and a step is not understood: \(flaw)")
        }
        guard !steps.isEmpty else { throw .holderFailed(name: "selftest", reason: "\(result.ending) without any step") }
        let passed = result.exit == .exited(status: 0) && !steps.contains { $0.result == .fail }
        return ManagerInterface.SelfTest.Reply(backend: backend, passed: passed, steps: steps)
    }

    private func run(
        _ command: String, _ order: (TDXDConfiguration.BackendChoice) -> LaunchRequest.Order,
        onLine: (ArraySlice<UInt8>) -> Void = { _ in }
    ) throws(ControlError) -> HolderLauncher.Result {
        let configuration = configuration
        do throws(HolderLauncher.Failure) {
            return try launcher.run(
                order(configuration.backends.backend), deadline: configuration.deadlines.check, onLine: onLine)
        } catch {
            throw .holderFailed(name: command, reason: "\(error)")
        }
    }
}

extension HolderInterface.Convert.Parameters {
    fileprivate init(_ request: ManagerInterface.Convert.Parameters) {
        self.init(gpa: request.gpa, bytes: request.bytes, to: request.to)
    }
}

extension ManagerInterface.Convert.Reply {
    fileprivate init(
        _ request: ManagerInterface.Convert.Parameters, of domain: Registry.Domain,
        _ answer: HolderInterface.Convert.Reply
    ) {
        self.init(
            name: request.name.rawValue, backend: domain.record.backend ?? .memfd,
            gpa: request.gpa.address.rawValue, bytes: request.bytes.size.rawValue, to: request.to,
            changedBytes: answer.changedBytes,
            discardedBytes: answer.discardedBytes, milliseconds: answer.milliseconds, progress: answer.progress)
    }
}
