//! The dashboard as an owner sees it: headless Chromium on a booted box. With
//! `PILOTLIGHT_PICTURES=FOLDER` it leaves pictures there, the README's among them.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use tests::{chrome::Chrome, vm::Vm};

#[test]
fn the_dashboard_in_a_browser() -> Result<()> {
    let mut vm = Vm::boot("browser")?;
    vm.wait_for_service(BOOT)?;
    let (ca, dashboard) = vm.for_browser("localhost")?;
    let mut chrome = Chrome::start("chrome", &ca)?;
    chrome.look_through(1280, 900, false)?;
    chrome.go(&dashboard)?;

    it_is_live_and_names_the_service(&mut chrome)?;
    it_fits_every_screen(&mut chrome)?;
    it_follows_the_box_without_reload(&mut vm, &mut chrome)?;
    the_service_has_its_own_page(&vm, &mut chrome)?;
    it_says_when_the_manager_hangs_and_recovers(&mut vm, &mut chrome, &dashboard)
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

fn the_service_has_its_own_page(vm: &Vm, chrome: &mut Chrome) -> Result<()> {
    let (_, service) = vm.for_browser("demo.localhost")?;
    chrome.go(&service)?;
    chrome.until(
        "document.body.innerText.includes('in a container on this box')",
        PAGE,
    )?;
    Ok(())
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

const BOOT: Duration = Duration::from_secs(900);
/// For one change on the page: the box is emulated, and the machine has other work.
const PAGE: Duration = Duration::from_secs(90);
