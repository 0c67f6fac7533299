//! The dashboard as an owner sees it: headless Chromium on a booted box. With
//! `PILOTLIGHT_PICTURES=FOLDER` it leaves pictures there, the README's among them.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use tests::{chrome::Chrome, vm::Vm};

#[test]
fn the_dashboard_in_a_browser() -> Result<()> {
    let (mut vm, mut chrome, dashboard) = opened("browser")?;
    it_is_live_and_names_the_service(&mut chrome)?;
    it_fits_every_screen(&mut chrome)?;
    it_follows_the_box_without_reload(&mut vm, &mut chrome)?;
    it_says_why_the_box_is_reached(&mut chrome)?;
    the_service_has_its_own_page(&vm, &mut chrome)?;
    it_says_when_the_manager_hangs_and_recovers(&mut vm, &mut chrome, &dashboard)
}

#[test]
#[ignore = "a change's window must be long enough for an emulated box; takes two minutes"]
fn the_network_in_a_browser() -> Result<()> {
    let (mut vm, mut chrome, _) = opened("browser-net")?;
    the_network_is_changed_and_nobody_is_locked_out(&mut vm, &mut chrome)
}

/// A box, and a browser that shows its dashboard.
fn opened(name: &str) -> Result<(Vm, Chrome, String)> {
    let vm = Vm::boot(name)?;
    vm.wait_for_service(BOOT)?;
    let (ca, dashboard) = vm.for_browser("localhost")?;
    let mut chrome = Chrome::start("chrome", &ca)?;
    chrome.look_through(1280, 900, false)?;
    chrome.go(&dashboard)?;
    Ok((vm, chrome, dashboard))
}

fn it_is_live_and_names_the_service(chrome: &mut Chrome) -> Result<()> {
    chrome.until("document.documentElement.dataset.trust === 'live'", PAGE)?;
    chrome.until(
        "document.querySelector('#services').innerText.includes('Running')",
        PAGE,
    )?;
    assert_eq!(chrome.complaints(), Vec::<String>::new());
    Ok(())
}

fn it_fits_every_screen(chrome: &mut Chrome) -> Result<()> {
    for (name, width, height) in [("phone", 360, 780), ("desk", 1280, 900)] {
        for (scheme, dark) in [("dark", true), ("light", false)] {
            chrome.look_through(width, height, dark)?;
            let wide = "document.documentElement.scrollWidth <= window.innerWidth";
            chrome.until(wide, PAGE)?;
            chrome.until("document.getAnimations().length === 0", PAGE)?;
            if let Some(folder) = std::env::var_os("PILOTLIGHT_PICTURES") {
                let file = format!("dashboard-{name}-{scheme}.png");
                chrome.picture(&PathBuf::from(folder).join(file))?;
            }
        }
    }
    Ok(())
}

fn it_follows_the_box_without_reload(vm: &mut Vm, chrome: &mut Chrome) -> Result<()> {
    chrome.evaluate("window.loadedOnce = true")?;
    vm.shell("echo '<4>a line of the browser test' > /dev/kmsg")?;
    chrome.until(
        "document.body.innerText.includes('a line of the browser test')",
        PAGE,
    )?;
    chrome.until("window.loadedOnce === true", PAGE)?;
    assert_eq!(chrome.complaints(), Vec::<String>::new());
    Ok(())
}

fn it_says_why_the_box_is_reached(chrome: &mut Chrome) -> Result<()> {
    for evidence in [
        "a cable is there",
        "10.0.2.15/24",
        "The front door answers.",
    ] {
        let shown = format!("document.querySelector('#findings').innerText.includes('{evidence}')");
        chrome.until(&shown, PAGE)?;
    }
    Ok(())
}

fn the_service_has_its_own_page(vm: &Vm, chrome: &mut Chrome) -> Result<()> {
    let (_, service) = vm.for_browser("demo.localhost")?;
    chrome.go(&service)?;
    chrome.until(
        "document.body.innerText.includes('in a container on this box')",
        PAGE,
    )?;
    Ok(())
}

/// An owner gives the box a right address and keeps it, undoes another change, and gives it a wrong
/// address, by which the page does not find it until it is undone.
fn the_network_is_changed_and_nobody_is_locked_out(vm: &mut Vm, chrome: &mut Chrome) -> Result<()> {
    let code = vm.setup_code()?;
    chrome.until("document.documentElement.dataset.trust === 'live'", PAGE)?;
    propose(chrome, &fixed("10.0.2.15/24"), &code)?;
    chrome.until(&links_say("Set by hand"), PAGE)?;
    press(chrome, "#change-keep")?;
    chrome.until("document.querySelector('#change').hidden", PAGE)?;
    chrome.until(&last_says("was confirmed"), PAGE)?;

    propose(chrome, &[("#net-mode", "automatic")], &code)?;
    chrome.until(&links_say("DHCP"), PAGE)?;
    press(chrome, "#change-undo")?;
    chrome.until("document.querySelector('#ask').open", PAGE)?;
    press(chrome, "#ask-do")?;
    chrome.until(&last_says("The last change was undone"), PAGE)?;
    chrome.until(&links_say("Set by hand"), PAGE)?;

    propose(chrome, &fixed("10.0.2.99/24"), &code)?;
    chrome.until("document.documentElement.dataset.trust !== 'live'", PAGE)?;
    let lost = "document.querySelector('#change-why').innerText.includes('does not find')";
    chrome.until(lost, PAGE)?;
    chrome.until(
        "document.documentElement.dataset.trust === 'live'",
        WINDOW + PAGE,
    )?;
    chrome.until(&last_says("so it was undone"), PAGE)?;
    chrome.until("document.querySelector('#change').hidden", PAGE)?;
    let address = "document.querySelector('#links').innerText.includes('10.0.2.15/24')";
    chrome.until(address, PAGE)?;
    // That nobody answered while the box was elsewhere, the browser says of itself.
    let mut complaints = chrome.complaints();
    complaints.retain(|complaint| !complaint.contains("\"source\":\"network\""));
    assert_eq!(complaints, Vec::<String>::new());
    Ok(())
}

/// Fills in the form of the first link, and says the setup code if it is asked for.
fn propose(chrome: &mut Chrome, fields: &[(&str, &str)], code: &str) -> Result<()> {
    press(chrome, "#net-links button")?;
    chrome.until("document.querySelector('#net').open", PAGE)?;
    for (field, value) in fields {
        chrome.evaluate(&format!(
            "{{ const field = document.querySelector('{field}'); field.value = '{value}'; \
             field.dispatchEvent(new Event('change')); }}"
        ))?;
    }
    press(chrome, "#net-form [type=submit]")?;
    chrome.until("document.querySelector('#ask').open", PAGE)?;
    chrome.evaluate(&format!(
        "document.querySelector('#ask-code').value = '{code}'"
    ))?;
    press(chrome, "#ask-do")?;
    chrome.until("!document.querySelector('#ask').open", PAGE)?;
    chrome.until("!document.querySelector('#change').hidden", PAGE)
}

/// Presses a button once it can be pressed, which it can't while the page does not hear the box.
fn press(chrome: &mut Chrome, button: &str) -> Result<()> {
    let pressed = format!(
        "(() => {{ const button = document.querySelector('{button}'); \
         if (!button || button.disabled) return false; button.click(); return true; }})()"
    );
    chrome.until(&pressed, PAGE)
}

fn fixed(address: &str) -> [(&'static str, &str); 4] {
    [
        ("#net-mode", "static"),
        ("#net-address", address),
        ("#net-gateway", "10.0.2.2"),
        ("#net-dns", "10.0.2.3"),
    ]
}

fn links_say(what: &str) -> String {
    format!("document.querySelector('#links').innerText.includes('{what}')")
}

fn last_says(what: &str) -> String {
    format!("document.querySelector('#net-last').innerText.includes('{what}')")
}

/// A page left open must not show old figures as if they were new.
fn it_says_when_the_manager_hangs_and_recovers(
    vm: &mut Vm,
    chrome: &mut Chrome,
    dashboard: &str,
) -> Result<()> {
    chrome.go(dashboard)?;
    chrome.until("document.documentElement.dataset.trust === 'live'", PAGE)?;
    chrome.evaluate(
        "window.trusts = []; new MutationObserver(() => \
         window.trusts.push(document.documentElement.dataset.trust))\
         .observe(document.documentElement, { attributes: true })",
    )?;
    vm.shell("kill -STOP $(pidof pilot-manager)")?;
    chrome.until("window.trusts.some(trust => trust !== 'live')", PAGE)?;
    chrome.until("document.documentElement.dataset.trust === 'live'", PAGE)
}

/// In which a change is to be kept.
const WINDOW: Duration = Duration::from_secs(90);
const BOOT: Duration = Duration::from_secs(900);
/// For one change on the page: the box is emulated, and the machine has other work.
const PAGE: Duration = Duration::from_secs(90);
