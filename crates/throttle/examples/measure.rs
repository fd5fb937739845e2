use throttle::*; use model::*;
#[tokio::main(flavor="current_thread")]
#[allow(clippy::all)]
async fn main(){
  let url=std::env::args().nth(1).unwrap();
  let (t,hb)=Throttle::connect(&url,Settings::for_worker("m","w")).unwrap();
  tokio::spawn(hb);
  t.watch_mode().wait_for(|m|*m==Mode::Shared).await.unwrap();
  let p=Path{provider:Provider::new("google"),source:"a".parse().unwrap()};
  let l=Limits::new(Some(Rate::per_second(500_000)),1000);
  let s=tokio::time::Instant::now();
  for _ in 0..500_000{ t.token(&p,&l).await; }
  println!("500k tokens {:?}", s.elapsed());
  let s=tokio::time::Instant::now();
  for _ in 0..20_000{ t.open(&p,&l).await.unwrap(); }
  println!("20k open+drop {:?}", s.elapsed());
  let mut held=Vec::new(); let l=Limits::new(None,10_000);
  for _ in 0..5000{ held.push(t.open(&p,&l).await.unwrap()); }
  tokio::time::sleep(std::time::Duration::from_secs(9)).await;
  assert!(held.iter().all(|s|s.is_fresh())); println!("5000 slots fresh");
}
